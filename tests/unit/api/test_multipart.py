"""The streaming form parser: whatever the cuts between pieces, what a form says comes out, and broken forms are refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.api.multipart import MultipartForm
from docray.domain.errors import InvalidField, MalformedMultipart, TooLarge

TYPE = "multipart/form-data; boundary=frontier"


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *headers])
    return b"--frontier\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--frontier--\r\n"


def read(body: bytes, cuts: list[int] | None = None, room: int = 1000) -> tuple[MultipartForm, bytes]:
    form = MultipartForm(TYPE, room)
    edges = [0, *sorted(cuts or []), len(body)]
    content = b"".join(piece for start, end in itertools.pairwise(edges) for piece in form.feed(body[start:end]))
    form.close()
    return form, content


BODY = (
    part('name="title"', "Tïtle".encode())
    + part('name="collection_id"', b"1")
    + part('name="file"; filename="re port.pdf"', b"%PDF-1.7\r\n--front\r\n\x00\xff", "Content-Type: application/pdf")
    + part('name="collection_id"', b"2")
    + END
)


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_fields_and_file_come_out_however_the_body_is_cut(cuts: list[int]) -> None:
    form, content = read(BODY, cuts)
    assert form.fields == {"title": ["Tïtle"], "collection_id": ["1", "2"]}
    assert (form.filename, content) == ("re port.pdf", b"%PDF-1.7\r\n--front\r\n\x00\xff")


@given(st.integers(0, len(BODY) - len(END) + 4))
def test_a_body_that_ends_early_is_malformed(length: int) -> None:
    with pytest.raises((MalformedMultipart, InvalidField)) as caught:
        read(BODY[:length])
    assert isinstance(caught.value, MalformedMultipart)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"; filename="C:\\folder\\file.pdf"', "C:\\folder\\file.pdf"),
        ('name="file"; filename="a \\"quoted\\" name.pdf"', 'a "quoted" name.pdf'),
        ('name="file"; filename="a %22quoted%22 name.pdf"', 'a "quoted" name.pdf'),
        ("name=file; filename=plain.pdf", "plain.pdf"),
        ("name=\"file\"; filename=\"fallback.pdf\"; filename*=UTF-8''%e6%8a%a5.pdf", "报.pdf"),
        ("name=\"file\"; filename*=iso-8859-1'de'%fcber.pdf", "über.pdf"),
        ("name=\"file\"; filename=\"fallback.pdf\"; filename*=UTF-8''%ff.pdf", "fallback.pdf"),
        ("name=\"file\"; filename=\"fallback.pdf\"; filename*=nonsense", "fallback.pdf"),
        ('name="file"; filename="Ünï; 报告.pdf"', "Ünï; 报告.pdf"),
        ('name="file"; filename=""', ""),
    ],
)
def test_file_names_are_read_as_clients_write_them(disposition: str, name: str) -> None:
    assert read(part(disposition, b"x") + END)[0].filename == name


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part('name="title"', b"x") + END, "file"),
        (part('name="file"', b"x") + END, "file"),
        (part('name="file"; filename="a"', b"x") + part('name="file"; filename="b"', b"x") + END, "file"),
        (part('name="picture"; filename="a"', b"x") + END, "picture"),
        (part('name="title"', b"\xff") + END, "title"),
    ],
)
def test_a_form_that_is_none_of_ours_names_the_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read(body)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"--y\r\nfoo\r\n--y--\r\n", b"nothing of a form", part("filename=x", b"x") + END])
def test_what_is_no_form_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMultipart):
        read(body)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 300}"])
def test_a_boundary_is_needed(content_type: str) -> None:
    with pytest.raises(MalformedMultipart):
        MultipartForm(content_type, 1000)


def test_fields_have_room_for_so_much_together() -> None:
    with pytest.raises(TooLarge):
        read(part('name="title"', b"x" * 600) + part('name="metadata"', b"x" * 600) + END)


def test_so_many_parts_are_too_many() -> None:
    with pytest.raises(TooLarge):
        read(part('name="collection_id"', b"x") * 300 + END)
