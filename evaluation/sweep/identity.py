"""What a run is: two that agree in all of this would compute the same."""

from collections.abc import Iterator
from dataclasses import dataclass

SHOWN_DIGITS = 8
# How messages call the parts.
NAMES = {
    'config_sha256': 'the config',
    'data_sha256': 'the data to evaluate on',
    'seed': 'the seed',
    'training_data_sha256': 'the training data',
    'start': 'the start',
    'start_sha256': 'the file of the starting weights',
    'batch_size': 'the number of images a step',
    'options': 'the options',
    'checkpoint_sha256': 'the checkpoint',
}


@dataclass(frozen=True)
class Identity:
    """A run's config, data, start and options.

    Attributes:
        config_sha256: of all settings, overrides included.
        data_sha256: of the data to evaluate on.
        seed: None in a test alone, whose checkpoint has one.
        training_data_sha256: None in a test alone.
        start: `scratch`, or path or URL of the weights; None in a test alone.
        start_sha256: of the file of the weights, None for a URL.
        batch_size: images a step, of all processes together; None in a test alone.
        options: those of the command line that change what is computed, such as `--amp`.
        checkpoint_sha256: what is tested, in a test alone.
        config_sha256_version_1: the digest of the same config in runs of earlier versions.
    """

    config_sha256: str
    data_sha256: str
    seed: int | None = None
    training_data_sha256: str | None = None
    start: str | None = None
    start_sha256: str | None = None
    batch_size: int | None = None
    options: tuple[str, ...] = ()
    checkpoint_sha256: str | None = None
    config_sha256_version_1: str | None = None

    @property
    def is_test(self) -> bool:
        """Whether a checkpoint is tested, without training."""
        return self.checkpoint_sha256 is not None

    def has_config(self, digest: object) -> bool:
        """Return whether a digest is one of this config, in any version."""
        return digest is not None and digest in (self.config_sha256, self.config_sha256_version_1)


def differences(wanted: Identity, found: Identity) -> Iterator[str]:
    """What differs between two runs, in words."""
    for field, name in NAMES.items():
        ours, theirs = getattr(wanted, field), getattr(found, field)
        is_same = wanted.has_config(theirs) if field == 'config_sha256' else ours == theirs
        if not is_same:
            yield f'{name} ({_short(theirs)} there, {_short(ours)} here)'


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ' '.join(value) or 'none'
    if value is None:
        return 'none'
    is_digest = isinstance(value, str) and len(value) == 64 and set(value) <= set('0123456789abcdef')
    return value[:SHOWN_DIGITS] if is_digest else str(value)
