"""How a report looks, on a screen of any width, light or dark, and on paper."""

STYLE = """
:root { --shade: #0003; }
body { max-width: 64rem; }
section { padding-bottom: .4rem; margin-top: 2rem; } section h2 { margin-top: 1rem; }
.lead { font-size: 1.1rem; margin: .4rem 0 0; max-width: 46rem; }
p { max-width: 46rem; }
p, li:not(.tiles li), figcaption, dt, .scores th, .notices th, thead th { overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; list-style: none; margin: 1.2rem 0 0; padding: 0; }
.tiles li { flex: 1 1 8rem; background: var(--raised); border-radius: 6px; padding: .6rem .8rem; color: var(--soft);
  font-size: .85rem; line-height: 1.3; }
.tiles b { display: block; color: var(--ink); font-size: 1.45rem; font-weight: 650; }
.advice { padding-left: 1.3rem; } .advice li { margin: 0 0 1rem; } .advice p { margin: 0 0 .3rem; }
pre { margin: 0; padding: .5rem .7rem; background: var(--raised); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
figure { max-width: none; padding: .4rem; margin: .8rem 0 0; }
figcaption { color: #4a525b; font-size: .85rem; padding: .3rem .2rem 0; }
.wide > img { display: block; width: 100%; height: auto; }
/* Narrower, its words could not be read. The box's shadows show through its white. */
@media screen { .wide > img { min-width: 52rem; mix-blend-mode: multiply; } }
figure .wide { --paper: #fff; --shade: #0003; }
/* At the edge where there is more to scroll to a shadow stays; at the others paper, which scrolls along, covers it. */
.wide { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 1rem, transparent) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 1rem, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .9rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .9rem 100% no-repeat scroll; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: .8rem; }
.film.stages { grid-column: 1 / -1; }
.film { margin: .4rem 0 0; background: var(--raised); } .film figcaption { color: var(--soft); }
.film video { display: block; width: 100%; height: auto; border-radius: 3px; background: #000; }
.paper { display: none; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; } tbody th { font-weight: 500; }
thead th { min-width: 4.5rem; } tbody th { min-width: 6rem; }
.scores thead th, .scores td { white-space: nowrap; }
.scores td:last-child { white-space: normal; min-width: 10rem; }
.machines td { overflow-wrap: anywhere; }
.settings td { font-family: ui-monospace, monospace; font-size: .88em; overflow-wrap: anywhere; min-width: 4.5rem; }
dl.settings { display: block; columns: 3 17rem; column-gap: 2rem; font-size: .85rem; }
dl.settings div { display: flex; justify-content: space-between; gap: .8rem; border-bottom: 1px solid var(--line);
  padding: .12rem 0; break-inside: avoid; } dl.settings dd { font-family: ui-monospace, monospace; text-align: right; }
@media screen and (prefers-color-scheme: dark) {
  :root { --shade: #fff4; } figure:not(.film) { filter: brightness(.82); border-radius: 8px; }
}
@media (max-width: 40rem) {
  .films { grid-template-columns: 1fr 1fr; gap: .5rem; } .film:first-child { grid-column: 1 / -1; }
  .scores td:nth-of-type(2) { white-space: normal; min-width: 8rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #ccc; --paper: #fff; --raised: #f3f3f3; }
  @page { margin: 14mm; }
  body { font-size: 9.5pt; line-height: 1.4; max-width: none; padding: 0; }
  h2, h2 + p { break-after: avoid; } section { margin-top: .5rem; padding: 0; } section h2 { margin-top: .6rem; }
  p, figure, li, tr, .tiles, .wide:has(.settings), section:has(.scores), section:has(.machines) { break-inside: avoid; }
  .tiles { margin-top: .8rem; } .tiles li { flex-basis: 5rem; padding: .3rem .6rem; }
  .lead { font-size: 11pt; } .advice li { margin-bottom: .5rem; } pre { padding: .3rem .6rem; }
  /* Three maps fit on a page, with their captions, so that none leaves half of one empty. */
  figure:has(figcaption) > .wide > img { width: auto; max-width: 100%; max-height: 76mm; }
  figure { margin-top: .4rem; padding: .2rem; }
  figcaption { font-size: 8pt; padding-top: .1rem; }
  .wide { overflow: visible; background: none; }
  .film video { display: none; } .paper { display: block; width: 100%; height: auto; }
  .films { grid-template-columns: repeat(3, 1fr); } .film:first-child:not(.stages) { grid-column: auto; }
  dl.settings { columns: 3 10rem; font-size: 7.5pt; column-gap: 1.2rem; } table { font-size: 9pt; }
}
"""
