"""The style sheet of a report: light and dark, from a phone's width up."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --text: #1c2126;
  --muted: #59626c; --rule: #dde1e6; --accent: #0b5fc0; --best: #b34700; --bad: #c3262b;
  --warn: #8a5a00; --faint: #aab2bc;
  --s0: #c9ced6; --s1: #a8bedb; --s2: #7ba6dd; --s3: #4b88d2; --s4: #1f66b8; --s5: #0b3f84; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2025; --text: #e8ebee;
  --muted: #a4adb7; --rule: #353c44; --accent: #7fb8ff; --best: #ffae66; --bad: #ff8d86;
  --warn: #e6b450; --faint: #59636e;
  --s0: #48525d; --s1: #42607f; --s2: #457bb0; --s3: #5b9bdd; --s4: #8fc0f5; --s5: #d3e7ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: clamp(1.45rem, 1.1rem + 1.6vw, 2.1rem); line-height: 1.2; margin: .2rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 0 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .25rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
a { color: var(--accent); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1.1rem 1rem; margin: 1.25rem 0 0; }
.kind { color: var(--muted); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase;
  margin: 0; }
.asked { font-size: 1.05rem; }
.score { font-size: 1.2rem; line-height: 1.4; }
.score b, .best .name, tr.best th { color: var(--best); }
.verdict { border-left: 4px solid var(--accent); padding-left: .75rem; font-weight: 600; }
.note, .axis, figcaption { color: var(--muted); font-size: .875rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0;
  margin: 1rem 0 0; font-size: .9rem; }
.columns { display: grid; gap: 1.25rem; grid-template-columns: minmax(0, 1fr); }
.columns > section { margin-top: 0; }
.columns { margin-top: 1.25rem; }
.small { display: grid; gap: 1.25rem 2rem; margin: 0 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; min-width: 0; }
.axis { margin: 0 0 .4rem; } .axis.end { text-align: right; margin: 1.6rem 0 .5rem; }
svg { display: block; overflow: visible; }
svg text { font-size: 12px; fill: var(--muted); }
.plot { margin-left: 3.4rem; width: calc(100% - 4.6rem); }
.parallel { margin: 0 .5rem; width: calc(100% - 1rem); }
.parallel text { stroke: var(--card); stroke-width: 4px; paint-order: stroke;
  stroke-linejoin: round; }
.parallel .knob { fill: var(--text); font-weight: 600; font-size: 13px; }
.moves { margin-left: 4.4rem; width: calc(100% - 5.2rem); }
.strip { width: 100%; }
.grid { stroke: var(--rule); } .base { stroke: var(--muted); }
.line { fill: none; vector-effect: non-scaling-stroke; stroke: var(--faint); stroke-width: 1.25px; }
.line.winner { stroke: var(--best); stroke-width: 3px; stroke-linejoin: round; }
.line.before { stroke: var(--best); stroke-width: 1.75px; stroke-dasharray: 2 4; }
.line.bound { stroke: var(--text); stroke-width: 1.5px; stroke-dasharray: 7 5; }
.line.sofar { stroke: var(--text); stroke-width: 1.25px; }
.line.lost { stroke: var(--bad); stroke-dasharray: 4 4; stroke-width: 1.25px; opacity: .8; }
.line.s0 { stroke: var(--s0); } .line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); }
.line.s3 { stroke: var(--s3); } .line.s4 { stroke: var(--s4); } .line.s5 { stroke: var(--s5); }
.line.s3, .line.s4, .line.s5 { stroke-width: 1.75px; }
.many .line:not(.winner, .before, .bound) { opacity: .4; }
.mark { fill: var(--accent); } .mark.faint { fill: var(--faint); }
.mark.pruned { fill: var(--warn); }
.mark.diverged, .mark.hung { fill: none; stroke: var(--bad); stroke-width: 2px; }
.mark.failed, .mark.oom { fill: var(--bad); }
.mark.winner { fill: var(--best); stroke: var(--card); stroke-width: 1.5px; }
.bar { fill: var(--s2); } .range { fill: var(--accent); opacity: .38; }
.whisker { stroke: var(--text); stroke-width: 1.5px; }
.strips { list-style: none; margin: 0 0 .75rem; padding: 0; }
.strips li { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .1rem .75rem;
  padding: .4rem 0; border-top: 1px solid var(--rule); align-items: center; }
.strips li:first-child { border-top: 0; }
.strips .name { font-weight: 600; overflow-wrap: break-word; min-width: 0; }
.value, td { font-variant-numeric: tabular-nums; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0;
  margin: .5rem 0 0; font-size: .875rem; color: var(--muted); }
.legend li { display: flex; align-items: center; gap: .4rem; min-width: 0; }
.legend .sign { flex: none; }
.ramp { display: flex; align-items: center; gap: 2px; } .ramp i { width: 1.1rem; height: .6rem; }
.s0 { background: var(--s0); } .s1 { background: var(--s1); } .s2 { background: var(--s2); }
.s3 { background: var(--s3); } .s4 { background: var(--s4); } .s5 { background: var(--s5); }
.scroll { overflow-x: auto; margin: 0 0 .75rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .875rem; width: max-content; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; } thead th { color: var(--muted); }
th:first-child, td:first-child, .text { text-align: left; }
tbody th { white-space: normal; min-width: 4.5rem; max-width: min(20rem, 60vw); }
.wide tbody th { max-width: min(12rem, 30vw); }
td.text { white-space: normal; max-width: min(26rem, 75vw); }
.wide tbody th { position: sticky; left: 0; background: var(--card); }
tr.best, .wide tr.best th { font-weight: 600;
  background: color-mix(in srgb, var(--best) 12%, var(--card)); }
.causes { list-style: none; margin: 0; padding: 0; }
.causes li { border-top: 1px solid var(--rule); padding: .5rem 0; }
.causes p { margin: 0; }
pre { background: var(--page); border: 1px solid var(--rule); border-radius: 6px; margin: .3rem 0 0;
  padding: .5rem .7rem; white-space: pre-wrap; font: .85rem/1.5 ui-monospace, Menlo, Consolas,
  monospace; }
dl { margin: 0; } dt { margin-top: .8rem; } dd { margin: 0; }
@media (min-width: 46rem) {
  main { padding: 2.5rem 2rem 5rem; } section { padding: 1.4rem 1.6rem; }
  .strips li { display: grid; grid-template-columns: 13rem 14rem minmax(0, 1fr); } }
@media (min-width: 64rem) { .columns { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media print { section { break-inside: avoid; } }
"""
