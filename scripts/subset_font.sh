#!/bin/sh
# Makes the two fonts that figures are drawn with (src/report/font) from DejaVu Sans 2.37, with what figures and labels
# use: Latin, Greek, super- and subscripts, a few signs. Needs `pyftsubset` (the Python package fonttools). sh
# scripts/subset_font.sh /usr/share/fonts/truetype/dejavu
set -eu
from=${1:?folder with DejaVuSans.ttf and DejaVuSans-Bold.ttf}
to=$(dirname "$0")/../src/report/font
ranges=U+20-7E,U+A0-17F,U+391-3C9,U+1D40,U+2010-2016,U+2018-201D,U+2020-2022,U+2026,U+2070-209C,U+2113,U+2190-2193,U+2200-2207,U+2211-221E,U+2225,U+2248,U+2260-2265,U+22C5
for name in DejaVuSans DejaVuSans-Bold; do
	pyftsubset "$from/$name.ttf" --unicodes=$ranges --output-file="$to/$name.ttf" --no-hinting --desubroutinize \
		--drop-tables+=GSUB,GPOS,GDEF,kern,FFTM --name-IDs=0,1,2,3,4,5,6,13,14 --notdef-outline
done
