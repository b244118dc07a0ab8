"""How the page looks: one style sheet for wide screens, phones and paper, light and dark."""

from __future__ import annotations

_LIGHT = """--paper:#fcfcfa;--card:#fff;--ink:#1d2126;--dim:#626a73;--line:#e2e3df;--faint:#f1f1ed;--kept:#2c7a86;--soft:#a9cfd3;
--lost:#c8553d;--gain:#6d8f3a;--link:#1d6272;--pii:#ffd9a0;--word:#f6c3c0;--sent:#e6d3f5;--mask:#d5ecd9;--lineink:#d9c48c;--del:#f9d0c9;--ins:#cdead2"""
_DARK = """--paper:#15181b;--card:#1c2024;--ink:#e4e6e8;--dim:#9aa3ab;--line:#32383d;--faint:#23282c;--kept:#58acb8;--soft:#2f575d;
--lost:#e27d63;--gain:#9dbd68;--link:#7cc4d1;--pii:#6b4a12;--word:#6e2f2c;--sent:#4a3560;--mask:#234a2d;--lineink:#6e6035;--del:#64302a;--ins:#224b2e"""

CSS = (
    f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
@media print{{:root{{color-scheme:light;{_LIGHT}}}}}
"""
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
a{color:var(--link)}
code,.text,pre{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;font-size:.86em}
code{overflow-wrap:anywhere}
.frame{max-width:1200px;margin:0 auto;padding:0 20px 60px}
header{padding:30px 0 6px}
h1{font-size:1.85em;line-height:1.2;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:1.32em;margin:46px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1.06em;margin:26px 0 8px;overflow-wrap:anywhere}
p{margin:8px 0;max-width:76ch}
.dim,small{color:var(--dim)}small{font-size:.86em}
nav ol{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:4px 16px}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:1.5em;line-height:1.25;font-weight:600}
.tile span{color:var(--dim);font-size:.86em}
.note{border-left:3px solid var(--lost);background:var(--faint);padding:8px 14px;border-radius:0 6px 6px 0;max-width:none}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.93em;margin:8px 0}
th{font-weight:600;color:var(--dim);text-align:left;border-bottom:1px solid var(--line);font-size:.9em}
th,td{padding:3px 14px 3px 0;vertical-align:top}
td{border-bottom:1px solid var(--faint)}
td:first-child{overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap}
details{margin:6px 0}
summary{cursor:pointer;overflow-wrap:anywhere;padding:2px 0}
summary:hover{color:var(--link)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--faint);border-radius:6px;padding:10px 14px;margin:6px 0}
.track{display:block;position:relative;height:13px;margin-top:5px;background:var(--faint);border-radius:2px;min-width:64px}
.track i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
.track i.k{background:var(--kept)}.track i.l{background:var(--lost)}.track i.g{background:var(--gain)}.track i.p{background:var(--soft)}
.unit{position:absolute;opacity:0}
.units{display:inline-flex;border:1px solid var(--line);border-radius:7px;overflow:hidden;margin:8px 0}
.units label{padding:3px 14px;cursor:pointer;background:var(--card)}
.units label+label{border-left:1px solid var(--line)}
#by-documents:checked~.units label[for=by-documents],#by-bytes:checked~.units label[for=by-bytes],#by-tokens:checked~.units label[for=by-tokens]{background:var(--kept);color:var(--paper)}
.unit:focus-visible~.units{outline:2px solid var(--link);outline-offset:2px}
.ub,.ut{display:none}
#by-bytes:checked~.flows .ub,#by-tokens:checked~.flows .ut{display:revert}
#by-bytes:checked~.flows .ud,#by-tokens:checked~.flows .ud{display:none}
.mixture table{width:100%}.mixture td:nth-child(2){min-width:110px;width:34%}
table.flow{width:100%;table-layout:fixed}
table.flow td:nth-child(1){width:27%}table.flow td:nth-child(3){width:110px}table.flow td:nth-child(4){width:66px}
table.flow td{padding:2px 10px 2px 0;border:0}
table.flow .stage td{border-top:1px solid var(--line);padding-top:7px;font-weight:600}
table.flow .reason td:first-child{padding-left:16px;color:var(--dim)}
table.flow .reason td.n{color:var(--dim)}
table.flow .kept td{padding-bottom:9px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px;margin:12px 0}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px 8px;min-width:0;break-inside:avoid;display:flex;flex-direction:column}
figcaption{font-size:.9em;overflow-wrap:anywhere}
figcaption b{font-weight:600}
figcaption ul{list-style:none;margin:3px 0 0;padding:0}
figcaption .f{color:var(--lost);font-weight:600}
figcaption .z{color:var(--dim)}
svg{display:block;width:100%;height:auto;margin:auto 0 2px;padding-top:6px}
svg text{fill:var(--dim);font-size:10px;font-family:inherit}
svg .ok{fill:var(--kept)}svg .bad{fill:var(--lost)}svg .all{fill:var(--soft)}
svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--dim);stroke-width:1}
svg .cut{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:3 2}svg text.cutname{fill:var(--ink);font-weight:600}
svg .open{fill:none;stroke:var(--dim);stroke-dasharray:2 3}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.9em;color:var(--dim);margin:8px 0}
.key i.box{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px}
article{margin:8px 0 18px;break-inside:avoid}
.facts{font-size:.9em;color:var(--dim);overflow-wrap:anywhere}
.facts b{color:var(--ink);font-weight:600}
.text{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:9px 12px;margin:4px 0;max-height:19em;overflow:auto;line-height:1.5;unicode-bidi:isolate}
.text .gap{display:block;color:var(--dim);font-style:italic;margin:4px 0}
i.c{font-style:normal;color:var(--dim);border:1px solid var(--line);border-radius:3px;padding:0 2px;font-size:.84em}
mark{background:none;color:inherit;border-radius:3px}
mark.pii{background:var(--pii)}mark.word{background:var(--word)}mark.sentence{background:var(--sent)}
mark.line{border-bottom:1px solid var(--lineink);border-radius:0}
mark.mask{background:var(--mask);padding:0 3px;font-weight:600}mark.shared{background:var(--word);font-weight:600}
mark.cut{background:var(--del);text-decoration:line-through}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:12px}.sides>div{min-width:0}
.text del{background:var(--del);text-decoration:none;border-radius:3px}.text ins{background:var(--ins);text-decoration:none;border-radius:3px}
footer{margin-top:50px;border-top:1px solid var(--line);padding-top:10px;color:var(--dim);font-size:.88em}
@media (min-width:1080px){
.frame{display:grid;grid-template-columns:176px minmax(0,1fr);gap:0 44px}
.frame>header,.frame>main,.frame>footer{grid-column:2}
nav{grid-column:1;grid-row:1/span 2;position:sticky;top:0;align-self:start;padding-top:36px;max-height:100vh;overflow:auto}
nav ol{display:block}nav li{margin:5px 0}}
@media (max-width:640px){
.frame{padding:0 14px 40px}.sides{grid-template-columns:1fr}
table.flow td:nth-child(1){width:36%}table.flow td:nth-child(3){width:84px}table.flow td:last-child{display:none}
.units label{padding:5px 12px}.text{max-height:15em}h1{font-size:1.5em}}
@media print{
body{font-size:10.5pt;background:#fff}nav,.units{display:none}.frame{max-width:none;padding:0}
.text{max-height:none;overflow:visible}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2,h3{break-after:avoid}}
"""
)
