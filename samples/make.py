"""Writes the sample PDFs from the text below: `python -m samples.make` (needs pymupdf)."""

from pathlib import Path

import pymupdf

_STYLE = """
body { font-family: sans-serif; font-size: 10.5pt; line-height: 1.35; }
h1 { font-size: 20pt; } h2 { font-size: 14pt; } table { width: 100%; } td, th { padding: 3pt; text-align: left; }
"""

REPORT = """
<h1>Annual Report of the Sunder Island Ferry Company</h1>
<p>Sunder Island lies nineteen kilometres off the coast. The company runs two ferries, the Maren and the Odile, and keeps the harbour of
Westhaven open all year. This report covers the year 2023.</p>
<h2>1 Traffic</h2>
<p>The ferries made 1,412 crossings in 2023 and carried 86,304 passengers, 7 percent more than the year before. The Maren carried two
thirds of them. On 61 days no ferry sailed because of storm or ice.</p>
<p>On 14 February the night crossing of the Maren took four hours and ten minutes instead of the usual fifty-five minutes, because drifting
ice blocked the entrance of Westhaven harbour until the tide turned. Nobody was hurt. The crew served soup to the passengers.</p>
<table border="1"><tr><th>Quarter</th><th>Crossings</th><th>Passengers</th><th>Cancelled days</th></tr>
<tr><td>First</td><td>268</td><td>11,020</td><td>34</td></tr><tr><td>Second</td><td>402</td><td>24,911</td><td>6</td></tr>
<tr><td>Third</td><td>471</td><td>36,870</td><td>2</td></tr><tr><td>Fourth</td><td>271</td><td>13,503</td><td>19</td></tr></table>
<h2>2 Money</h2>
<p>Income was 2.94 million crowns, of which the county paid 0.8 million as a subsidy. Fuel was the largest expense with 0.71 million
crowns. The year closed with a surplus of 112,000 crowns, which goes into the fund for a new ferry.</p>
<h2>3 Ships</h2>
<p>The Odile was in dock for five weeks in April and May. Her port engine was replaced and her hull painted. The new engine uses
eleven percent less fuel than the old one. The Maren is due for dock in the spring of 2025.</p>
<h2>4 Outlook</h2>
<p>The board has asked three yards for offers for an electric ferry with room for 220 passengers and 18 cars. A decision is expected
in June 2024. Until then the timetable stays as it is.</p>
"""

MINUTES = """
<h1>Minutes of the Harbour Council of Westhaven</h1>
<p>Meeting of 9 October 2023, 19:00, in the old customs house. Present: Ines Calder (chair), Tomas Brandt, Wilhelmina Oke, Peter Sundquist
(harbour master). Excused: Ruth Alder.</p>
<h2>Item 1: Lighthouse</h2>
<p>The harbour master reported that the lamp of the north lighthouse failed on the night of 27 September and was repaired within six hours.
The council decided unanimously to buy a spare lamp for 8,400 crowns.</p>
<h2>Item 2: Berths for visitors</h2>
<p>Visiting yachts paid 46,200 crowns in berth fees during the summer. Wilhelmina Oke proposed to raise the fee from 120 to 150 crowns a night.
The proposal was accepted with three votes against one. The new fee applies from 1 May 2024.</p>
<h2>Item 3: Seals</h2>
<p>Tomas Brandt asked that speed in the inner harbour be limited to four knots from March to July, when the seals have their young. The
council agreed and asked the harbour master to put up signs.</p>
<h2>Item 4: Any other business</h2>
<p>The next meeting is on 11 December 2023. The council thanked Peter Sundquist for twenty-five years of service.</p>
"""

HANDBOOK = """
<h1>Handbook for Keepers of the North Lighthouse</h1>
<h2>Daily duties</h2>
<p>Light the lamp half an hour before sunset and put it out half an hour after sunrise. Wind the clockwork of the rotating lens every
four hours. Write wind, visibility and passing ships into the log at 06:00, 12:00, 18:00 and midnight.</p>
<h2>The lamp</h2>
<p>The lamp shows two white flashes every fifteen seconds and can be seen for twenty-one nautical miles in clear weather. If the main lamp
fails, switch to the reserve lamp within two minutes and telephone the harbour master.</p>
<h2>Fog</h2>
<p>When the church of Westhaven cannot be seen from the gallery, start the fog horn: one blast of five seconds every minute. The horn needs
compressed air of at least six bar; check the gauge every hour.</p>
<h2>Supplies</h2>
<p>The supply boat comes on the first Tuesday of each month. Order lamp oil when less than 300 litres are left. Drinking water comes from
the cistern, which holds 4,000 litres; boil it in August and September.</p>
<h2>Emergency</h2>
<p>The dinghy has room for six. Flares are in the red locker beside the stairs. The nearest doctor is Dr Amalia Voss in Westhaven.</p>
"""


def write(path: Path, html: str, title: str) -> None:
    """Lays the text out on A5 pages."""
    box = pymupdf.paper_rect("a5")
    story, buffer = pymupdf.Story(html=html, user_css=_STYLE), path
    writer = pymupdf.DocumentWriter(str(buffer))
    more = True
    while more:
        device = writer.begin_page(box)
        more, _ = story.place(pymupdf.Rect(box.x0 + 42, box.y0 + 42, box.x1 - 42, box.y1 - 42))
        story.draw(device)
        writer.end_page()
    writer.close()
    with pymupdf.open(path) as document:
        document.set_metadata({"title": title})
        data = document.tobytes(garbage=4, deflate=True, no_new_id=True)
    path.write_bytes(data)


def main() -> None:
    """All three."""
    folder = Path(__file__).parent
    write(folder / "ferry-annual-report-2023.pdf", REPORT, "Annual Report of the Sunder Island Ferry Company 2023")
    write(folder / "harbour-council-minutes.pdf", MINUTES, "Minutes of the Harbour Council of Westhaven")
    write(folder / "lighthouse-handbook.pdf", HANDBOOK, "Handbook for Keepers of the North Lighthouse")


if __name__ == "__main__":
    main()
