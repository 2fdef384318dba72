"""Colours and shapes: all that can be restyled, for light and for dark readers."""

from collections.abc import Sequence

from homenode.guest import Guest
from homenode.host import DeviceKind, NodeKind

WIDTH = 1120
MARGIN = 24
LINE = 16
"""From one line of ordinary text to the next."""

GUEST_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377",
    "#ee7733", "#009988", "#9977dd", "#997700", "#cc6699", "#44aa99",
)  # fmt: skip
_BLENDS = ((0, 0), (255, 45), (0, 40))
"""What is mixed into the colours when they come round again: none, white, black; in percent."""

_CONTROL_COLOUR = "#5f4b8b"

_BRIGHT = 140
"""From this brightness on, of 255, words on a colour are dark."""

SHADES = 7
"""Classes shade0 to shade6, from near to far."""

GLYPHS: dict[DeviceKind | None, str] = {
    "accelerator": "M5 0 L10 5 L5 10 L0 5 Z",
    "display": "M0 1 H10 V7.5 H0 Z M3 10 H7 M5 7.5 V10",
    "network": "M5 0 V4 M1.5 10 V6 M8.5 10 V6 M0 5 H10",
    "storage": "M0 2 C0 -0.5 10 -0.5 10 2 V8 C10 10.5 0 10.5 0 8 Z M0 2 C0 4.5 10 4.5 10 2",
    "other": "M1 1 H9 V9 H1 Z",
}
"""What stands for a device, in a square of ten pixels; a kind without one is a question mark."""

_LIGHT = """
.paper { fill: #ffffff } .text { fill: #1f2328 } .quiet { fill: #59636e }
.socket { fill: #f6f8fa; stroke: #d1d9e0 } .node { fill: #ffffff; stroke: #afb8c1 }
.package { fill: none; stroke: #8c959f; stroke-dasharray: 3 2 }
.llc { fill: none; stroke: #a9b4bf } .core { fill: #eaeef2; stroke: none }
.thread { fill: #aab5c0 } .frame { fill: none; stroke: #59636e }
.used { fill: #8c959f } .pages { fill: #b9a5de } .reclaimable { fill: #d1d9e0 }
.free { fill: #ffffff } .hatch { fill: #fff1d6 } .hatch-line { stroke: #bf8700; stroke-width: 2 }
.link { fill: none; stroke: #8c959f; stroke-width: 1.5 }
.glyph { fill: none; stroke: #424a53; stroke-width: 1.4 } .accelerator { fill: #424a53 }
.dram { fill: #4b5563 } .cxl { fill: #0e7490 } .hbm { fill: #b45309 } .gpu { fill: #3f7d20 }
.pmem { fill: #8b3fa0 } .kind-unknown { fill: none; stroke: #59636e; stroke-dasharray: 2 2 }
.on-kind { fill: #ffffff } .self { fill: #d8dee4 } .unknown { fill: none; stroke: #d1d9e0 }
.shade0 { fill: #e8f1fa } .shade1 { fill: #c6dbef } .shade2 { fill: #9ecae1 }
.shade3 { fill: #6baed6 } .shade4 { fill: #3a82bd } .shade5 { fill: #1f68ac }
.shade6 { fill: #084594 } .on-near { fill: #1f2328 } .on-far { fill: #ffffff }
"""

_DARK = """
.paper { fill: #0d1117 } .text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.socket { fill: #151b23; stroke: #3d444d } .node { fill: #0d1117; stroke: #656c76 }
.package { stroke: #656c76 } .llc { stroke: #59626d } .core { fill: #212830 }
.thread { fill: #5b6570 } .frame { stroke: #9198a1 } .used { fill: #656c76 }
.pages { fill: #7a63ad } .reclaimable { fill: #3d444d } .free { fill: #0d1117 }
.hatch { fill: #3a2f14 } .hatch-line { stroke: #d29922 } .link { stroke: #656c76 }
.glyph { stroke: #c4ccd4 } .accelerator { fill: #c4ccd4 } .kind-unknown { stroke: #9198a1 }
.dram { fill: #59626d } .cxl { fill: #155e75 } .hbm { fill: #92400e } .gpu { fill: #356b1c }
.pmem { fill: #76338a } .self { fill: #30363d } .unknown { stroke: #3d444d }
.shade0 { fill: #11263c } .shade1 { fill: #153a5f } .shade2 { fill: #1a4f83 }
.shade3 { fill: #2166a8 } .shade4 { fill: #5ea1dc } .shade5 { fill: #8cc0ec }
.shade6 { fill: #c2e0f8 } .on-near { fill: #e6edf3 } .on-far { fill: #0d1117 }
"""

STYLE = f"""
svg {{ font-family: system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; font-size: 12px }}
.title {{ font-size: 20px; font-weight: 600 }} .head {{ font-size: 14px; font-weight: 600 }}
.strong {{ font-weight: 600 }} .small {{ font-size: 10px }} .tiny {{ font-size: 8px }}
.middle {{ text-anchor: middle }} .end {{ text-anchor: end }}{_LIGHT}
@media (prefers-color-scheme: dark) {{{_DARK}}}
"""


def guest_colour(at: int, guests: Sequence[Guest]) -> str:
    """Return the colour of a guest, given its index; Xen's dom0 has one of its own."""
    if guests[at].is_control:
        return _CONTROL_COLOUR
    before = sum(not guest.is_control for guest in guests[:at])
    turn, colour = divmod(before, len(GUEST_COLOURS))
    return _blended(GUEST_COLOURS[colour], _BLENDS[turn % len(_BLENDS)])


def ink_on(colour: str) -> str:
    """Return the colour of words on a colour that is the same in the light and in the dark."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#1f2328" if (299 * red + 587 * green + 114 * blue) // 1000 >= _BRIGHT else "#ffffff"


def _blended(colour: str, blend: tuple[int, int]) -> str:
    towards, percent = blend
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{part + (towards - part) * percent // 100:02x}" for part in parts)


def kind_style(kind: NodeKind | None) -> str:
    """Return the class of a kind of memory."""
    return kind or "kind-unknown"
