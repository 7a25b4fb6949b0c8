from pilothouse.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_KIND_UNSPECIFIED: _ClassVar[TaskKind]
    TASK_KIND_RANKING: _ClassVar[TaskKind]
    TASK_KIND_DEMONSTRATION: _ClassVar[TaskKind]

class AdjustmentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADJUSTMENT_KIND_UNSPECIFIED: _ClassVar[AdjustmentKind]
    ADJUSTMENT_KIND_VETO: _ClassVar[AdjustmentKind]
    ADJUSTMENT_KIND_FLAG: _ClassVar[AdjustmentKind]

class RaterState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATER_STATE_UNSPECIFIED: _ClassVar[RaterState]
    RATER_STATE_ACTIVE: _ClassVar[RaterState]
    RATER_STATE_DISABLED: _ClassVar[RaterState]
    RATER_STATE_EXCLUDED: _ClassVar[RaterState]

class ExportFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPORT_FORMAT_UNSPECIFIED: _ClassVar[ExportFormat]
    EXPORT_FORMAT_RANKING: _ClassVar[ExportFormat]
    EXPORT_FORMAT_PREFERENCE: _ClassVar[ExportFormat]
    EXPORT_FORMAT_PREFERENCE_IMPLICIT: _ClassVar[ExportFormat]
    EXPORT_FORMAT_UNPAIRED: _ClassVar[ExportFormat]
    EXPORT_FORMAT_DEMONSTRATION: _ClassVar[ExportFormat]
    EXPORT_FORMAT_LABEL_STUDIO: _ClassVar[ExportFormat]
    EXPORT_FORMAT_ARGILLA: _ClassVar[ExportFormat]

class FileFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_FORMAT_UNSPECIFIED: _ClassVar[FileFormat]
    FILE_FORMAT_JSONL: _ClassVar[FileFormat]
    FILE_FORMAT_PARQUET: _ClassVar[FileFormat]

class Split(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_UNSPECIFIED: _ClassVar[Split]
    SPLIT_TRAIN: _ClassVar[Split]
    SPLIT_HELD_OUT: _ClassVar[Split]
TASK_KIND_UNSPECIFIED: TaskKind
TASK_KIND_RANKING: TaskKind
TASK_KIND_DEMONSTRATION: TaskKind
ADJUSTMENT_KIND_UNSPECIFIED: AdjustmentKind
ADJUSTMENT_KIND_VETO: AdjustmentKind
ADJUSTMENT_KIND_FLAG: AdjustmentKind
RATER_STATE_UNSPECIFIED: RaterState
RATER_STATE_ACTIVE: RaterState
RATER_STATE_DISABLED: RaterState
RATER_STATE_EXCLUDED: RaterState
EXPORT_FORMAT_UNSPECIFIED: ExportFormat
EXPORT_FORMAT_RANKING: ExportFormat
EXPORT_FORMAT_PREFERENCE: ExportFormat
EXPORT_FORMAT_PREFERENCE_IMPLICIT: ExportFormat
EXPORT_FORMAT_UNPAIRED: ExportFormat
EXPORT_FORMAT_DEMONSTRATION: ExportFormat
EXPORT_FORMAT_LABEL_STUDIO: ExportFormat
EXPORT_FORMAT_ARGILLA: ExportFormat
FILE_FORMAT_UNSPECIFIED: FileFormat
FILE_FORMAT_JSONL: FileFormat
FILE_FORMAT_PARQUET: FileFormat
SPLIT_UNSPECIFIED: Split
SPLIT_TRAIN: Split
SPLIT_HELD_OUT: Split

class QueueSettings(_message.Message):
    __slots__ = ("name", "kind", "instructions", "overlap", "lease_seconds", "gold_every", "paused")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GOLD_EVERY_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: TaskKind
    instructions: str
    overlap: int
    lease_seconds: int
    gold_every: int
    paused: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., instructions: _Optional[str] = ..., overlap: _Optional[int] = ..., lease_seconds: _Optional[int] = ..., gold_every: _Optional[int] = ..., paused: _Optional[bool] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("settings", "open_tasks", "done_tasks", "gold_tasks", "leased", "submissions", "skips")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    DONE_TASKS_FIELD_NUMBER: _ClassVar[int]
    GOLD_TASKS_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    SKIPS_FIELD_NUMBER: _ClassVar[int]
    settings: QueueSettings
    open_tasks: int
    done_tasks: int
    gold_tasks: int
    leased: int
    submissions: int
    skips: int
    def __init__(self, settings: _Optional[_Union[QueueSettings, _Mapping]] = ..., open_tasks: _Optional[int] = ..., done_tasks: _Optional[int] = ..., gold_tasks: _Optional[int] = ..., leased: _Optional[int] = ..., submissions: _Optional[int] = ..., skips: _Optional[int] = ...) -> None: ...

class PutQueueRequest(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: QueueSettings
    def __init__(self, settings: _Optional[_Union[QueueSettings, _Mapping]] = ...) -> None: ...

class PutQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues", "page_address")
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    PAGE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    page_address: str
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., page_address: _Optional[str] = ...) -> None: ...

class FeedbackPrompt(_message.Message):
    __slots__ = ("text", "messages", "source")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    messages: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.ChatMessage]
    source: str
    def __init__(self, text: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_tensor_pb2.ChatMessage, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...

class AnswerSource(_message.Message):
    __slots__ = ("model", "run", "version", "temperature", "seed")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    model: str
    run: str
    version: int
    temperature: float
    seed: int
    def __init__(self, model: _Optional[str] = ..., run: _Optional[str] = ..., version: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("text", "source", "id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    source: AnswerSource
    id: str
    def __init__(self, text: _Optional[str] = ..., source: _Optional[_Union[AnswerSource, _Mapping]] = ..., id: _Optional[str] = ...) -> None: ...

class NewTask(_message.Message):
    __slots__ = ("id", "prompt", "answers", "priority", "gold_ranks")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    GOLD_RANKS_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: FeedbackPrompt
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    priority: float
    gold_ranks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[_Union[FeedbackPrompt, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., priority: _Optional[float] = ..., gold_ranks: _Optional[_Iterable[int]] = ...) -> None: ...

class AddTasksRequest(_message.Message):
    __slots__ = ("queue", "tasks")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    queue: str
    tasks: _containers.RepeatedCompositeFieldContainer[NewTask]
    def __init__(self, queue: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[NewTask, _Mapping]]] = ...) -> None: ...

class AddTasksResponse(_message.Message):
    __slots__ = ("added", "skipped")
    ADDED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    added: int
    skipped: int
    def __init__(self, added: _Optional[int] = ..., skipped: _Optional[int] = ...) -> None: ...

class SetPrioritiesRequest(_message.Message):
    __slots__ = ("priorities",)
    class PrioritiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    priorities: _containers.ScalarMap[str, float]
    def __init__(self, priorities: _Optional[_Mapping[str, float]] = ...) -> None: ...

class SetPrioritiesResponse(_message.Message):
    __slots__ = ("updated",)
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    updated: int
    def __init__(self, updated: _Optional[int] = ...) -> None: ...

class ListOpenTasksRequest(_message.Message):
    __slots__ = ("queue", "limit", "after")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    queue: str
    limit: int
    after: str
    def __init__(self, queue: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListOpenTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[NewTask]
    def __init__(self, tasks: _Optional[_Iterable[_Union[NewTask, _Mapping]]] = ...) -> None: ...

class ClaimTaskRequest(_message.Message):
    __slots__ = ("queue", "rater")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    queue: str
    rater: str
    def __init__(self, queue: _Optional[str] = ..., rater: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("id", "task", "queue", "kind", "instructions", "prompt", "answers", "lease_expires_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    task: str
    queue: str
    kind: TaskKind
    instructions: str
    prompt: FeedbackPrompt
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    lease_expires_at: float
    def __init__(self, id: _Optional[str] = ..., task: _Optional[str] = ..., queue: _Optional[str] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., instructions: _Optional[str] = ..., prompt: _Optional[_Union[FeedbackPrompt, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., lease_expires_at: _Optional[float] = ...) -> None: ...

class ClaimTaskResponse(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("assignment", "rater")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    rater: str
    def __init__(self, assignment: _Optional[str] = ..., rater: _Optional[str] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("lease_expires_at",)
    LEASE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    lease_expires_at: float
    def __init__(self, lease_expires_at: _Optional[float] = ...) -> None: ...

class ReleaseTaskRequest(_message.Message):
    __slots__ = ("assignment", "rater")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    rater: str
    def __init__(self, assignment: _Optional[str] = ..., rater: _Optional[str] = ...) -> None: ...

class ReleaseTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RankingSubmission(_message.Message):
    __slots__ = ("ranks", "unsafe", "corrections")
    class CorrectionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    RANKS_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    ranks: _containers.RepeatedScalarFieldContainer[int]
    unsafe: _containers.RepeatedScalarFieldContainer[int]
    corrections: _containers.ScalarMap[int, str]
    def __init__(self, ranks: _Optional[_Iterable[int]] = ..., unsafe: _Optional[_Iterable[int]] = ..., corrections: _Optional[_Mapping[int, str]] = ...) -> None: ...

class DemonstrationSubmission(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class SkipSubmission(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("id", "assignment", "rater", "ranking", "demonstration", "skip", "comment", "seconds")
    ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    DEMONSTRATION_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    assignment: str
    rater: str
    ranking: RankingSubmission
    demonstration: DemonstrationSubmission
    skip: SkipSubmission
    comment: str
    seconds: float
    def __init__(self, id: _Optional[str] = ..., assignment: _Optional[str] = ..., rater: _Optional[str] = ..., ranking: _Optional[_Union[RankingSubmission, _Mapping]] = ..., demonstration: _Optional[_Union[DemonstrationSubmission, _Mapping]] = ..., skip: _Optional[_Union[SkipSubmission, _Mapping]] = ..., comment: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("repeated",)
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    repeated: bool
    def __init__(self, repeated: _Optional[bool] = ...) -> None: ...

class UndoRequest(_message.Message):
    __slots__ = ("submission", "rater")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    submission: str
    rater: str
    def __init__(self, submission: _Optional[str] = ..., rater: _Optional[str] = ...) -> None: ...

class UndoResponse(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class AdjustRequest(_message.Message):
    __slots__ = ("answer", "prompt_of_task", "kind", "lift", "reason", "rater")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    PROMPT_OF_TASK_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LIFT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    answer: str
    prompt_of_task: str
    kind: AdjustmentKind
    lift: bool
    reason: str
    rater: str
    def __init__(self, answer: _Optional[str] = ..., prompt_of_task: _Optional[str] = ..., kind: _Optional[_Union[AdjustmentKind, str]] = ..., lift: _Optional[bool] = ..., reason: _Optional[str] = ..., rater: _Optional[str] = ...) -> None: ...

class AdjustResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddRaterRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class AddRaterResponse(_message.Message):
    __slots__ = ("rater",)
    RATER_FIELD_NUMBER: _ClassVar[int]
    rater: str
    def __init__(self, rater: _Optional[str] = ...) -> None: ...

class CreateInviteRequest(_message.Message):
    __slots__ = ("admin", "valid_seconds")
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    VALID_SECONDS_FIELD_NUMBER: _ClassVar[int]
    admin: bool
    valid_seconds: int
    def __init__(self, admin: _Optional[bool] = ..., valid_seconds: _Optional[int] = ...) -> None: ...

class CreateInviteResponse(_message.Message):
    __slots__ = ("token", "url")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    token: str
    url: str
    def __init__(self, token: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class RaterReport(_message.Message):
    __slots__ = ("rater", "pseudonym", "state", "rankings", "skips", "agreement", "gold_accuracy", "reliability", "drift", "first_position_rate", "suspicions", "median_seconds")
    RATER_FIELD_NUMBER: _ClassVar[int]
    PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    SKIPS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    GOLD_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    RELIABILITY_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_RATE_FIELD_NUMBER: _ClassVar[int]
    SUSPICIONS_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    rater: str
    pseudonym: str
    state: RaterState
    rankings: int
    skips: int
    agreement: float
    gold_accuracy: float
    reliability: float
    drift: float
    first_position_rate: float
    suspicions: _containers.RepeatedScalarFieldContainer[str]
    median_seconds: float
    def __init__(self, rater: _Optional[str] = ..., pseudonym: _Optional[str] = ..., state: _Optional[_Union[RaterState, str]] = ..., rankings: _Optional[int] = ..., skips: _Optional[int] = ..., agreement: _Optional[float] = ..., gold_accuracy: _Optional[float] = ..., reliability: _Optional[float] = ..., drift: _Optional[float] = ..., first_position_rate: _Optional[float] = ..., suspicions: _Optional[_Iterable[str]] = ..., median_seconds: _Optional[float] = ...) -> None: ...

class ListRatersRequest(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    def __init__(self, queue: _Optional[str] = ...) -> None: ...

class ListRatersResponse(_message.Message):
    __slots__ = ("raters",)
    RATERS_FIELD_NUMBER: _ClassVar[int]
    raters: _containers.RepeatedCompositeFieldContainer[RaterReport]
    def __init__(self, raters: _Optional[_Iterable[_Union[RaterReport, _Mapping]]] = ...) -> None: ...

class SetRaterStateRequest(_message.Message):
    __slots__ = ("rater", "state")
    RATER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    rater: str
    state: RaterState
    def __init__(self, rater: _Optional[str] = ..., state: _Optional[_Union[RaterState, str]] = ...) -> None: ...

class SetRaterStateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EraseRaterRequest(_message.Message):
    __slots__ = ("rater",)
    RATER_FIELD_NUMBER: _ClassVar[int]
    rater: str
    def __init__(self, rater: _Optional[str] = ...) -> None: ...

class EraseRaterResponse(_message.Message):
    __slots__ = ("kept_rankings",)
    KEPT_RANKINGS_FIELD_NUMBER: _ClassVar[int]
    kept_rankings: int
    def __init__(self, kept_rankings: _Optional[int] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class GetQualityRequest(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    def __init__(self, queue: _Optional[str] = ...) -> None: ...

class GetQualityResponse(_message.Message):
    __slots__ = ("rankings", "overlapping_tasks", "alpha", "pair_agreement", "tau", "gold_accuracy", "top_by_position", "longer_preferred", "raters")
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    OVERLAPPING_TASKS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    PAIR_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    GOLD_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    TOP_BY_POSITION_FIELD_NUMBER: _ClassVar[int]
    LONGER_PREFERRED_FIELD_NUMBER: _ClassVar[int]
    RATERS_FIELD_NUMBER: _ClassVar[int]
    rankings: int
    overlapping_tasks: int
    alpha: Estimate
    pair_agreement: Estimate
    tau: Estimate
    gold_accuracy: Estimate
    top_by_position: _containers.RepeatedScalarFieldContainer[float]
    longer_preferred: Estimate
    raters: _containers.RepeatedCompositeFieldContainer[RaterReport]
    def __init__(self, rankings: _Optional[int] = ..., overlapping_tasks: _Optional[int] = ..., alpha: _Optional[_Union[Estimate, _Mapping]] = ..., pair_agreement: _Optional[_Union[Estimate, _Mapping]] = ..., tau: _Optional[_Union[Estimate, _Mapping]] = ..., gold_accuracy: _Optional[_Union[Estimate, _Mapping]] = ..., top_by_position: _Optional[_Iterable[float]] = ..., longer_preferred: _Optional[_Union[Estimate, _Mapping]] = ..., raters: _Optional[_Iterable[_Union[RaterReport, _Mapping]]] = ...) -> None: ...

class WatchFeedbackRequest(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    def __init__(self, queue: _Optional[str] = ...) -> None: ...

class WatchFeedbackResponse(_message.Message):
    __slots__ = ("rankings", "demonstrations", "open_tasks")
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    DEMONSTRATIONS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    rankings: int
    demonstrations: int
    open_tasks: int
    def __init__(self, rankings: _Optional[int] = ..., demonstrations: _Optional[int] = ..., open_tasks: _Optional[int] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("queue", "format", "file_format", "conversational", "split", "held_out_percent")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FILE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATIONAL_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    queue: str
    format: ExportFormat
    file_format: FileFormat
    conversational: bool
    split: Split
    held_out_percent: int
    def __init__(self, queue: _Optional[str] = ..., format: _Optional[_Union[ExportFormat, str]] = ..., file_format: _Optional[_Union[FileFormat, str]] = ..., conversational: _Optional[bool] = ..., split: _Optional[_Union[Split, str]] = ..., held_out_percent: _Optional[int] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("manifest", "chunk")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    manifest: str
    chunk: FileChunk
    def __init__(self, manifest: _Optional[str] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("queue", "format", "file_format", "data")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FILE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    queue: str
    format: ExportFormat
    file_format: FileFormat
    data: bytes
    def __init__(self, queue: _Optional[str] = ..., format: _Optional[_Union[ExportFormat, str]] = ..., file_format: _Optional[_Union[FileFormat, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("tasks", "rankings", "known")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    RANKINGS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    tasks: int
    rankings: int
    known: int
    def __init__(self, tasks: _Optional[int] = ..., rankings: _Optional[int] = ..., known: _Optional[int] = ...) -> None: ...
