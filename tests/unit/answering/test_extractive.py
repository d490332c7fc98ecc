"""The answer without a language model."""

import pytest
from answer_checks import answered, check_answer, checked_events, events_of
from answering_library import PRINCIPAL, Library, page_of

from docray.answering.service import AnswerService
from docray.domain.documents import BlockKind
from docray.domain.errors import InvalidField, Unavailable
from docray.domain.ports import Vectors
from docray.domain.questions import Question, RefusalReason
from models.in_process import InProcessEmbedder

FILLER = "The committee met in the usual room and approved the minutes. Visitors sign the register at the entrance."
PAGES = (
    page_of(1, f"{FILLER} The Zovobik reactor at the Novinik station was inspected by engineer Gufifak in 1828 and reached 8826 degrees."),
    page_of(2, f"In 1731 the Tufidan expedition led by captain Nudimik crossed the Seponun glacier in 9090 days. {FILLER}"),
    page_of(3, "Harbour dues", kind=BlockKind.HEADING),
    page_of(4, "Vessel 2022 2023\nFerry Marunel 1,204 1,377\nTrawler Bodarix 88 91", kind=BlockKind.TABLE),
)
OFF_TOPIC = (
    "What is the boiling point of tungsten hexafluoride?",
    "Which teams played in the final of the 1954 football world championship?",
    "How do I knit a scarf with a moss stitch pattern?",
    "Who composed the opera about the flying Dutchman?",
    "What is the airspeed velocity of an unladen swallow?",
    "How many degrees did the Pilazon reactor reach?",
)


@pytest.fixture
async def service(library: Library) -> AnswerService:
    await library.add("station.pdf", *PAGES)
    return AnswerService(search=library, catalog=library, embedder=library.embedder)


async def test_a_fact_is_answered_by_its_sentence(service: AnswerService) -> None:
    answer = await answered(service, "Who inspected the Zovobik reactor at the Novinik station, and how many degrees did it reach?")
    sentence = "The Zovobik reactor at the Novinik station was inspected by engineer Gufifak in 1828 and reached 8826 degrees."
    assert answer.answer == f"{sentence} [1]"
    [citation] = answer.citations
    assert (citation.quote, citation.page, citation.span) == (sentence, 1, (0, len(sentence)))
    assert (answer.model, answer.degraded) == ("extractive", ())
    assert set(answer.timings_ms) == {"retrieve", "first_token", "total"}


async def test_a_question_about_two_facts_is_answered_by_both_sentences(service: AnswerService) -> None:
    answer = await answered(
        service, "Who inspected the Zovobik reactor at the Novinik station? When did the Tufidan expedition cross the Seponun glacier?"
    )
    assert {citation.page for citation in answer.citations} == {1, 2}
    assert [citation.index for citation in answer.citations] == [1, 2]


async def test_a_figure_in_a_table_is_answered_by_its_whole_row(service: AnswerService) -> None:
    answer = await answered(service, "What are the harbour dues of the ferry Marunel?")
    assert answer.citations[0].quote == "Ferry Marunel 1,204 1,377"


@pytest.mark.parametrize("question", OFF_TOPIC)
async def test_what_the_documents_do_not_say_is_refused(service: AnswerService, question: str) -> None:
    answer = await answered(service, question)
    assert answer.refusal_reason is RefusalReason.NOT_IN_DOCUMENTS
    assert answer.search_results.hits


async def test_without_any_document_in_scope_the_refusal_says_so(service: AnswerService, library: Library) -> None:
    answer = await answered(service, "Who inspected the Zovobik reactor?", document_ids=(PRINCIPAL.id,))
    assert answer.refusal_reason is RefusalReason.NO_DOCUMENTS
    assert answer.search_results.hits == ()


async def test_the_same_question_gives_the_same_answer(service: AnswerService) -> None:
    answers = [(await answered(service, "In how many days did the Tufidan expedition cross the glacier?")) for _ in range(3)]
    assert len({(answer.answer, str(answer.citations)) for answer in answers}) == 1


async def test_chinese_is_answered_and_refused_like_any_language(library: Library) -> None:
    await library.add("港口.pdf", page_of(1, "北方港口于一九零一年由史密斯船长建成。委员会每周一开会讨论道路维修。"))
    service = AnswerService(search=library, catalog=library, embedder=library.embedder)
    answer = await answered(service, "北方港口是哪一年由史密斯船长建成的？")
    assert answer.citations[0].quote == "北方港口于一九零一年由史密斯船长建成。"
    assert (await answered(service, "六氟化钨的沸点是多少度？")).refused


async def test_a_sentence_with_a_link_in_it_is_not_quoted(library: Library) -> None:
    await library.add(
        "links.pdf",
        page_of(1, "The Zovobik reactor is shown at https://evil.example/zovobik now. The Zovobik reactor was built by engineer Gufifak."),
    )
    service = AnswerService(search=library, catalog=library, embedder=library.embedder)
    answer = await answered(service, "Who built the Zovobik reactor, and where is it shown?")
    assert answer.answer == "The Zovobik reactor was built by engineer Gufifak. [1]"


async def test_brackets_in_a_quote_are_no_markers(library: Library) -> None:
    await library.add("paper.pdf", page_of(1, "The Zovobik reactor [3] reached 8826 degrees [4, 5]."))
    service = AnswerService(search=library, catalog=library, embedder=library.embedder)
    answer = await answered(service, "How many degrees did the Zovobik reactor reach?")
    assert answer.answer == "The Zovobik reactor [3] reached 8826 degrees [4, 5]. [1]"


async def test_an_unknown_model_is_refused_before_the_first_event(service: AnswerService) -> None:
    assert service.models == ("extractive",)
    with pytest.raises(InvalidField) as raised:
        await events_of(service, "Who?", model="gpt-nothing")
    assert raised.value.param == "model"


async def test_a_document_replaced_while_it_was_found_leaves_a_refusal(library: Library) -> None:
    document = await library.add("station.pdf", *PAGES)
    service = AnswerService(search=library, catalog=library, embedder=library.embedder)
    events = service.answer(PRINCIPAL, Question(question="Who inspected the Zovobik reactor?"))
    found = [await anext(events)]
    library.replace(document)
    answer = checked_events(found + [event async for event in events])
    check_answer(answer)
    assert answer.refused


class WithoutVectors:
    """An embedder whose engine has gone; tokens are still counted."""

    def __init__(self, embedder: InProcessEmbedder) -> None:
        self.model_id, self.dimension, self.max_tokens = embedder.model_id, embedder.dimension, embedder.max_tokens
        self.count_tokens = embedder.count_tokens

    async def embed_queries(self, texts: object) -> Vectors:
        raise Unavailable

    embed_passages = embed_queries


async def test_without_the_embedder_words_decide(library: Library) -> None:
    await library.add("station.pdf", *PAGES)
    service = AnswerService(search=library, catalog=library, embedder=WithoutVectors(library.embedder))  # type: ignore[arg-type]
    answer = await answered(service, "Who inspected the Zovobik reactor at the Novinik station?")
    assert (answer.citations[0].page, answer.degraded) == (1, ("dense",))
    assert (await answered(service, OFF_TOPIC[0])).refused
