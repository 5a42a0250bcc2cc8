"""Colors, dashes and markers that tell models apart in figures; a mixer has one color on a page."""

from collections.abc import Iterable

# Told apart with every kind of colour vision (Okabe and Ito, "Color Universal Design", 2008), without
# the yellow, which is faint on white.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
# Further ones, as far from these and from each other with normal, red-blind and green-blind vision, and
# seen on white and on the dark ground of the report.
MORE_COLORS = ('#903C20', '#203CE4', '#205874', '#3C7474')
# For models that share a color.
DASHES = ('-', '--', ':')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')


def mixer_colors(mixers: Iterable[str]) -> dict[str, str]:
    """A color for each mixer, by name; in turns where there are more than colors.

    Args:
        mixers: all that a page or figure shows.
    """
    colors = (*COLORS[:-1], *MORE_COLORS)
    return {name: colors[index % len(colors)] for index, name in enumerate(sorted(set(mixers)))}
