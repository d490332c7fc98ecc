"""A multipart form with one file, parsed as it streams: the file's bytes go on at once, only the small fields stay in memory.

Owns the form's syntax (RFC 7578, file names as RFC 5987 and as browsers write them). Leaves the file to whoever takes its pieces.
"""

import re
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from docray.domain.errors import InvalidField, MalformedMultipart, TooLarge

FILE_FIELD = "file"
_MAX_FIELDS = 200
_PARAMETER = re.compile(rb';\s*([\w!#$&+\-^`|~.]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.S)


class MultipartForm:
    """A form on its way in. `fields` and `filename` are whole when `close` returns."""

    def __init__(self, content_type: str, max_field_bytes: int) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedMultipart("The Content-Type names no boundary. Send it as your HTTP library writes it.")
        self.fields: dict[str, list[str]] = {}
        self.filename: str | None = None
        self.has_file = False
        self._room = max_field_bytes
        self._count = 0
        self._ended = False
        self._pieces: list[bytes] = []
        self._header_name = self._header_value = self._disposition = b""
        self._field: tuple[str, bytearray] | None = None  # None while the file's part is read
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedMultipart from error

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes of the body → pieces of the file. MalformedMultipart; InvalidField for what is no field of a form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedMultipart from error
        pieces, self._pieces = self._pieces, []
        return pieces

    def close(self) -> None:
        """The body has ended. MalformedMultipart when the form has not, InvalidField without a file."""
        if not self._ended:
            raise MalformedMultipart
        if not self.has_file:
            raise InvalidField("file: A file is needed. Send the PDF as a part named `file`, with a file name.", FILE_FIELD)

    # --- what the parser calls ---------------------------------------------------------------------------------------

    def _begin_part(self) -> None:
        self._disposition = b""
        self._count += 1
        if self._count > _MAX_FIELDS:
            raise TooLarge(f"The form has more than {_MAX_FIELDS} parts.")

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.strip().lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _open_part(self) -> None:
        options = _parameters(self._disposition)
        name = _text(options.get(b"name", b""))
        if not name:
            raise MalformedMultipart("A part of the form has no name. Send the whole form again.")
        is_file = b"filename" in options or b"filename*" in options
        if is_file and name != FILE_FIELD:
            raise InvalidField(f"{name}: No file is expected here. Send the PDF as the part `file`.", name)
        if name == FILE_FIELD and not is_file:
            raise InvalidField("file: Send the PDF with a file name in its part's Content-Disposition.", name)
        if not is_file:
            self._field = (name, bytearray())
            return
        if self.has_file:
            raise InvalidField("file: Send one file at a time.", FILE_FIELD)
        self.has_file = True
        self.filename = _filename(options)
        self._field = None

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._room -= end - start
        if self._room < 0:
            raise TooLarge("The fields of the form are larger than this call accepts.", self._field[0])
        self._field[1].extend(data[start:end])

    def _end_part(self) -> None:
        if self._field is None:
            return
        name, value = self._field
        try:
            self.fields.setdefault(name, []).append(value.decode())
        except UnicodeDecodeError:
            raise InvalidField(f"{name}: This is no UTF-8 text.", name) from None
        self._field = None

    def _end(self) -> None:
        self._ended = True


def _parameters(header: bytes) -> dict[bytes, bytes]:
    """Parameters of a Content-Disposition. Within quotes a backslash counts only before a quote or another backslash: Windows paths."""
    found: dict[bytes, bytes] = {}
    for name, value in _PARAMETER.findall(header):
        if value.startswith(b'"'):
            value = re.sub(rb'\\(["\\])', rb"\1", value[1:-1])
        found.setdefault(name.lower(), value.strip())
    return found


def _filename(options: dict[bytes, bytes]) -> str:
    """`filename*` (RFC 5987) where it is well formed, else `filename`, in which browsers write a quote as %22."""
    extended = options.get(b"filename*", b"").split(b"'", 2)
    if len(extended) == 3 and extended[0].lower() in (b"utf-8", b"iso-8859-1"):
        try:
            return unquote_to_bytes(extended[2]).decode(extended[0].decode())
        except UnicodeDecodeError:
            pass
    return _text(options.get(b"filename", b"")).replace("%22", '"')


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
