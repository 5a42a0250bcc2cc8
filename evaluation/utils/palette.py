"""Colors, dashes and markers of models in figures; a mixer has one color per page."""

from collections.abc import Iterable

# Distinguishable with every kind of color vision (Okabe and Ito, "Color Universal Design", 2008). Their
# yellow is omitted because it is faint on white.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
# More colors, far from these and from each other for normal, red-blind and green-blind vision, and
# visible on white and on the dark background of the report.
MORE_COLORS = ('#903C20', '#203CE4', '#205874', '#3C7474')
# For models that share a color.
DASHES = ('-', '--', ':')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')


def mixer_colors(mixers: Iterable[str]) -> dict[str, str]:
    """Return a color for each mixer, by name; colors repeat if there are more mixers.

    Args:
        mixers: all mixers on a page or in a figure.
    """
    colors = (*COLORS[:-1], *MORE_COLORS)
    return {name: colors[index % len(colors)] for index, name in enumerate(sorted(set(mixers)))}
