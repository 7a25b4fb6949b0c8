"""What `pilothouse train reward-model` says at its end."""

from pilothouse.trainer.ensemble import EnsembleResult, member_config
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.fit_run import MODEL
from pilothouse.trainer.reward_model import RewardModelResult
from pilothouse.trainer.statistics import interval_to_json


def model_told(config: RewardModelConfig, result: RewardModelResult) -> dict[str, object]:
    """Returns the figures of one model by name."""
    told: dict[str, object] = {"state": "finished", "model": str(config.output / MODEL)}
    told["reward_version"] = result.version
    if result.report is not None:
        told["held_out_accuracy"] = interval_to_json(result.report.accuracy.overall)
        told["calibration_error"] = result.report.calibration.error.mean
        if result.report.agreement is not None and result.report.agreement.overall.people is not None:
            told["human_agreement"] = interval_to_json(result.report.agreement.overall.people)
    return {**told, **result.counts, **result.metrics}


def ensemble_told(config: RewardModelConfig, result: EnsembleResult) -> dict[str, object]:
    """Returns the figures of an ensemble by name."""
    numbers = range(1, len(result.members) + 1)
    told: dict[str, object] = {
        "state": "finished",
        "models": [str(member_config(config, number).output / MODEL) for number in numbers],
        "reward_versions": [member.version for member in result.members],
        **result.members[0].counts,
    }
    if result.report is not None:
        told["held_out_accuracy"] = interval_to_json(result.report.mean.overall)
        told["held_out_accuracy_min"] = interval_to_json(result.report.least.overall)
        told["held_out_accuracy_mean_minus_std"] = interval_to_json(result.report.mean_minus_std.overall)
        told["member_deviation"] = result.report.disagreement.deviation.mean
    return told
