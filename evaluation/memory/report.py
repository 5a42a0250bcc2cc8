"""Tables of predicted memory, for the terminal and for the documentation."""

from collections.abc import Mapping
from pathlib import Path

from evaluation.benchmark.passes import Size
from evaluation.memory.budget import CARDS, CONTEXT, FRAGMENTATION, GB
from evaluation.memory.variants import VARIANTS, ConfigMemory
from evaluation.utils.files import replace_between
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import DASH, Cell, Column, Table, to_markdown

START, END = '<!-- training memory -->', '<!-- end of training memory -->'
NO_CARD = 'no'


def render(found: Mapping[str, ConfigMemory], gpus: int, objects: int) -> str:
    """Return a Markdown table for each size of a batch, and notes.

    Args:
        found: memory of each config, by its name.
        gpus: number of GPUs that train together.
        objects: number of objects on each image.
    """
    by_size: dict[Size, dict[str, ConfigMemory]] = {}
    for name, memory in found.items():
        by_size.setdefault(memory.size, {})[name] = memory
    tables = [to_markdown(_table(size, members, gpus)) for size, members in by_size.items()]
    return '\n'.join([*tables, '\n\n'.join(notes(objects))]) + '\n'


def notes(objects: int) -> list[str]:
    """Return what the columns mean, one paragraph each."""
    margin, context = fixed(1 + FRAGMENTATION, 1), fixed(CONTEXT / GB, 1)
    return [
        'GB are 10^9 bytes. lasting: weights and, with EMAHook, their moving average; moments of the '
        'optimizer; on several GPUs, buckets of DistributedDataParallel as large as the gradients. '
        'fp32, amp, cp, amp + cp: all tensors at the peak of a step. amp is --amp. cp is --cfg-options '
        'model.backbone.with_cp=True, which recomputes the blocks of the backbone in the backward pass. '
        f'Detectors have {objects} objects on each image.',
        'Columns of cards: the first of fp32, amp, cp and amp + cp that fits, or no. It fits if '
        f'{margin} x peak + {context} GB is at most the memory of the card: '
        f'{fixed(100 * FRAGMENTATION, 0)} % for fragmentation, {context} GB for the CUDA context and '
        'the workspaces of cuDNN, cuBLAS and NCCL.',
    ]


def _table(size: Size, found: Mapping[str, ConfigMemory], gpus: int) -> Table:
    headings = ['Config', 'lasting', *VARIANTS, *(f'{card} GB' for card in CARDS)]
    columns = tuple(Column(heading, heading, heading != 'Config') for heading in headings)
    plural = 's' * (gpus > 1)
    title = f'Memory of a training step in GB: {size} on each of {gpus} GPU{plural}'
    return Table(title, columns, (tuple(_row(*each) for each in found.items()),), ())


def _row(name: str, memory: ConfigMemory) -> tuple[Cell, ...]:
    variants = memory.variants
    lasting = next(iter(variants.values())).lasting
    cells = [Cell(name), Cell(fixed(lasting / GB, 1))]
    for variant in VARIANTS:
        cells.append(Cell(fixed(variants[variant].total / GB, 1) if variant in variants else DASH))
    return *cells, *(Cell(fitting(memory, card) or NO_CARD) for card in CARDS)


def fitting(memory: ConfigMemory, card: float) -> str | None:
    """Return the first variant that fits on a card with this memory in GB; None if none does."""
    fit = (name for name, each in memory.variants.items() if each.needed <= card * GB)
    return next(fit, None)


def write_docs(text: str | None, page: Path) -> None:
    """Replace the tables of a page; without a text, only check that this is possible.

    Raises:
        UserError: the page cannot be read or written, or has no markers.
    """
    replace_between(page, START, END, text)
