"""The closed loop: turn after turn, from where things stand."""

from pilothouse.trainer.display import Display
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.online.history import Standing, last_standing
from pilothouse.trainer.online.turns import Turn
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir


class Loop:
    """Takes turns with people. The services, feedback included, are up."""

    def __init__(
        self,
        config: LoopConfig,
        reward_model: RewardModelConfig,
        ppo: PpoRunConfig,
        display: Display,
    ) -> None:
        """Takes over where things stand.

        Args:
            config: The loop.
            reward_model: What its reward models are like; data and folders are the loop's.
            ppo: What its PPO runs are like; models and folders are the loop's.
            display: Where every state shows how far it is.
        """
        self._config, self._reward_model, self._ppo, self._display = config, reward_model, ppo, display

    def run(self) -> Standing:
        """Takes the turns that are left and returns where things stand.

        Raises:
            ConfigError: A setting cannot work.
            RunInUseError: Another process takes the turns of this folder.
            KeyboardInterrupt: Ended by the user; what was done is kept.
            PilothouseError: A state failed; called again, the loop goes on there.
        """
        with RunDir(self._config.folder):
            standing = last_standing(self._config)
            while not self._config.turns or standing.turn < self._config.turns:
                standing = Turn(self._config, self._reward_model, self._ppo, self._display, standing).run()
            return standing
