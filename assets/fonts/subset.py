#!/usr/bin/env python3
"""Makes the bundled fonts: Inter cut down to Latin, Greek, Cyrillic and the signs in use, with tabular figures as default.

    subset.py /usr/share/fonts/opentype/inter     (Debian: fonts-inter; needs `pip install fonttools`)
"""
import sys
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x1E00, 0x1EFF),
          (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20BF), (0x2100, 0x214F), (0x2190, 0x2199), (0x2200, 0x22FF),
          (0x25A0, 0x25FF), (0x2713, 0x2717)]

for style in ("Regular", "SemiBold"):
    font = TTFont(f"{sys.argv[1]}/Inter-{style}.otf")
    figures = {}
    for record in font["GSUB"].table.FeatureList.FeatureRecord:
        if record.FeatureTag == "tnum":
            for i in record.Feature.LookupListIndex:
                for sub in font["GSUB"].table.LookupList.Lookup[i].SubTable:
                    figures.update(getattr(getattr(sub, "ExtSubTable", sub), "mapping", {}))
    for table in font["cmap"].tables:
        for code in range(0x30, 0x3A):
            if code in table.cmap:
                table.cmap[code] = figures.get(table.cmap[code], table.cmap[code])  # subtables may share a map
    options = Options()
    options.layout_features = ["kern", "ccmp", "locl", "mark", "mkmk"]
    options.hinting = False
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=[c for a, b in RANGES for c in range(a, b + 1)])
    subsetter.subset(font)
    font.save(f"Inter-{style}.otf")
