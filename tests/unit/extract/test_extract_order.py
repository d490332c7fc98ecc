"""Order and structure: layout bound to the authority's words, its guard, rows of figures."""

from collections import Counter

from docray.domain.documents import BlockKind, Page, Word
from docray.ingestion.extract.alignment import Aligner, fold
from docray.ingestion.extract.assemble import assemble
from docray.ingestion.extract.layout import LayoutBlock, LayoutLine, LayoutPage
from docray.ingestion.extract.pieces import Piece, RawPage
from docray.ingestion.extract.rows import rows_of_figures


def raw(*lines: tuple[float, float, str], blocks: dict[int, int] | None = None) -> RawPage:
    """Lines of words (x, y, text), 6 points a character and 10 points high; each line its own block unless `blocks` says otherwise."""
    pieces = []
    for number, (x, y, text) in enumerate(lines):
        for word in text.split():
            pieces.append(Piece(word, (x, y, x + 6.0 * len(word), y + 10), number, (blocks or {}).get(number, number)))
            x += 6.0 * (len(word) + 1)
    return RawPage(600, 800, 0, pieces)


def layout(*blocks: LayoutBlock) -> LayoutPage:
    return LayoutPage(600, 800, blocks)


def block(kind: BlockKind, text: str, level: int = 0) -> LayoutBlock:
    return LayoutBlock(kind, level, (LayoutLine(text, None),), None)


def table(*rows: tuple[str, ...]) -> LayoutBlock:
    return LayoutBlock(BlockKind.TABLE, 0, tuple(LayoutLine("", None, tuple((cell, None) for cell in row)) for row in rows), None)


def words_of(page: RawPage) -> list[Word]:
    return [Word(piece.text, piece.box, piece.line) for piece in page.pieces]


def said(page: Page) -> list[str]:
    return ["".join(word.said + word.after for word in page.words[block.start : block.end]).rstrip("\n") for block in page.blocks]


COLUMNS = raw((50, 100, "left one"), (350, 100, "right one"), (50, 120, "left two"), (350, 120, "right two"))


def test_columns_are_read_in_the_layouts_order_and_nothing_is_lost() -> None:
    found = assemble(COLUMNS, 4, layout(block(BlockKind.HEADING, "**left one**", 2), block(BlockKind.PARAGRAPH, "left two right one right two")))

    assert found.by_layout
    assert said(found.page) == ["left one", "left two right one right two"]
    assert [(part.kind, part.level) for part in found.page.blocks] == [(BlockKind.HEADING, 2), (BlockKind.PARAGRAPH, 0)]
    assert found.page.number == 4


def test_a_layout_that_drops_words_is_refused() -> None:
    found = assemble(COLUMNS, 1, layout(block(BlockKind.PARAGRAPH, "left one left two right one")))

    assert not found.by_layout
    assert Counter(word.text for word in found.page.words) == Counter(piece.text for piece in COLUMNS.pieces)


def test_a_layout_that_invents_words_is_refused() -> None:
    invented = "left one left two right one right two and a sentence that stands nowhere on this page"

    assert not assemble(COLUMNS, 1, layout(block(BlockKind.PARAGRAPH, invented))).by_layout


def test_a_layout_of_another_page_size_is_refused() -> None:
    rotated = LayoutPage(800, 600, (block(BlockKind.PARAGRAPH, "left one right one left two right two"),))

    assert not assemble(COLUMNS, 1, rotated).by_layout


def test_a_word_the_layout_left_out_stands_beside_its_neighbour() -> None:
    lines = [(50.0, 100.0 + 14 * number, f"line{number} has quite some words of its own") for number in range(12)]
    page = raw(*lines, (300, 760, "7"), blocks=dict.fromkeys(range(12), 0))
    text = " ".join(text for _, _, text in lines).replace("line3 has quite", "line3 quite", 1)

    found = assemble(page, 1, layout(block(BlockKind.PARAGRAPH, text)))

    assert found.by_layout
    assert said(found.page) == [" ".join(text for _, _, text in lines), "7"]


def test_repeated_words_are_bound_where_the_layouts_box_is() -> None:
    page = raw((50, 100, "Total 12"), (50, 300, "Total 34"))
    low = LayoutBlock(BlockKind.PARAGRAPH, 0, (LayoutLine("Total 34", (40, 290, 200, 320)),), (40, 290, 200, 320))
    high = LayoutBlock(BlockKind.PARAGRAPH, 0, (LayoutLine("Total 12", (40, 90, 200, 120)),), (40, 90, 200, 120))

    bound = Aligner(words_of(page)).align(layout(low, high))

    assert bound.lines == [[[2, 3]], [[0, 1]]]
    assert bound.lost == 0


def test_markdown_hyphens_and_quotation_marks_do_not_keep_texts_apart() -> None:
    assert fold("*Company\u2019s*") == fold("Company's")
    assert fold("mixed-mode") == fold("mixedmode")
    assert fold("\u2014") == fold("-") != ""


def test_a_short_word_is_not_found_at_the_start_of_a_longer_one() -> None:
    page = raw((50, 100, "a cat"), (50, 120, "and dog"))

    bound = Aligner(words_of(page)).align(layout(block(BlockKind.PARAGRAPH, "and dog a cat")))

    assert bound.lines == [[[2, 3, 0, 1]]]


def upside_down(page: RawPage) -> RawPage:
    """The same page turned by 180 degrees: words keep their order and lie the other way round."""
    turned = [Piece(p.text, (600 - p.box[2], 800 - p.box[3], 600 - p.box[0], 800 - p.box[1]), p.line, p.block) for p in page.pieces]
    return RawPage(600, 800, 180, turned)


def test_upside_down_text_keeps_the_authoritys_order() -> None:
    page = upside_down(raw((50, 100, "the station was inspected in 1928 and reached 4464 degrees")))

    found = assemble(page, 1, layout(block(BlockKind.PARAGRAPH, "degrees. and reached 4464 the station was inspected in 1928")))

    assert not found.by_layout
    assert said(found.page) == ["the station was inspected in 1928 and reached 4464 degrees"]


def test_text_that_is_written_from_right_to_left_is_not_upside_down() -> None:
    page = upside_down(raw((50, 100, "مرحبا بكم في المدينة")))

    assert assemble(page, 1, layout(block(BlockKind.PARAGRAPH, "مرحبا بكم في المدينة"))).by_layout


FIGURES = raw((50, 100, "Net income"), (300, 100, "1,019"), (400, 100, "(426)"), (50, 115, "Dividends paid"), (300, 115, "$ 24"), (400, 115, "—"))


def test_a_row_of_figures_is_a_label_with_two_numbers_at_its_end() -> None:
    page = raw((50, 100, "Net income"), (300, 100, "1,019"), (400, 100, "(426)"), (50, 115, "In 2009 we had 10 of them"), (50, 130, "2023 2022"))

    assert rows_of_figures(words_of(page)) == [[0, 1, 2, 3]]


def test_figures_drawn_column_by_column_come_out_row_by_row() -> None:
    page = raw((50, 100, "Sales"), (50, 115, "Costs"), (300, 100, "10"), (300, 115, "20"), (400, 100, "11"), (400, 115, "21"))

    found = assemble(page, 1, None).page

    assert [part.kind for part in found.blocks] == [BlockKind.TABLE]
    assert found.text == "Sales 10 11\nCosts 20 21"
    assert found.blocks[0].rows == ((0, 3), (3, 6))


def test_a_table_row_that_runs_two_lines_together_is_cut() -> None:
    page = raw((50, 100, "Sales"), (300, 100, "10 11"), (50, 115, "Costs"), (300, 115, "20 21"), (50, 130, "Taxes"), (300, 130, "30 31"))

    found = assemble(page, 1, layout(table(("Sales Costs", "10 20", "11 21"), ("Taxes", "30", "31"))))

    assert found.by_layout
    assert found.page.text == "Sales 10 11\nCosts 20 21\nTaxes 30 31"


def test_tables_keep_their_rows_as_lines_of_the_text() -> None:
    page = raw((50, 100, "City"), (300, 100, "Country"), (50, 115, "Oslo"), (300, 115, "Norway"), (50, 140, "Below the table."))

    found = assemble(page, 1, layout(table(("City", "Country"), ("Oslo", "Norway")), block(BlockKind.PARAGRAPH, "Below the table."))).page

    assert found.text == "City Country\nOslo Norway\n\nBelow the table."
    assert found.blocks[0].rows == ((0, 2), (2, 4))
    assert [word.line for word in found.words] == [0, 0, 1, 1, 2, 2, 2]


def test_prose_in_columns_is_not_made_a_table_by_one_line_that_looks_like_a_row() -> None:
    page = raw(
        (50, 100, "We began the work in"), (350, 100, "It ended in 2008 2009"),
        (50, 115, "a small room and went"), (350, 115, "and nobody was surprised"),
        (50, 130, "on from there to the end"), (350, 130, "by what became of it"),
        blocks={0: 0, 2: 0, 4: 0, 1: 1, 3: 1, 5: 1},
    )  # fmt: skip
    reordered = RawPage(600, 800, 0, sorted(page.pieces, key=lambda piece: piece.block))

    assert [part.kind for part in assemble(reordered, 1, None).page.blocks] == [BlockKind.PARAGRAPH] * 2


def test_a_page_without_words_has_no_blocks() -> None:
    found = assemble(RawPage(600, 800, 0, []), 1, layout()).page

    assert found.words == ()
    assert found.blocks == ()


def test_a_paragraphs_last_line_that_layout_put_into_the_table_below_goes_back_to_its_sentence() -> None:
    page = raw(
        (50, 100, "until the tide"), (50, 112, "turned and nobody was hurt that night."),
        (50, 140, "Quarter"), (250, 140, "Crossings"), (50, 155, "First"), (250, 155, "268"), (50, 170, "Second"), (250, 170, "402"),
    )  # fmt: skip
    prose, rows = "turned and nobody was hurt that night.", (("Quarter", "Crossings"), ("First", "268"), ("Second", "402"))

    found = assemble(page, 1, layout(block(BlockKind.PARAGRAPH, "until the tide"), table((prose,), *rows)))

    assert said(found.page) == ["until the tide turned and nobody was hurt that night.", "Quarter Crossings\nFirst 268\nSecond 402"]
    assert [each.kind for each in found.page.blocks] == [BlockKind.PARAGRAPH, BlockKind.TABLE]
