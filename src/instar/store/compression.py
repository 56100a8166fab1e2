"""zstd, in and out. What comes out of :func:`compressed` is part of the bake format.

The frame's options are fixed: level 3, jobs of 2 MiB that each look back over the whole window, a checksum, no
content size (the length of a stream isn't known when its frame begins), no dictionary. Its bytes don't depend on the
number of worker threads, as long as there is at least one, nor on how the input was cut into chunks. They do depend
on the version of zstd: ``ENCODER``. (zstd's own jobs, of 8 MiB, take 60 MB more memory for the same result.)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from instar.errors import StoreError

ENCODER = (1, 5, 7)  # the zstd of bake format 1
_LEVEL = 3
_JOB_BYTES = 2 << 20
_WHOLE_WINDOW = 9
_THREADS = 2
_WINDOW_LIMIT_BYTES = 1 << 27
_READ_BYTES = 1 << 20


def require_encoder() -> None:
    """Raise StoreError when the zstd on this machine isn't the one of the bake format: it makes other bytes."""
    import zstandard

    if zstandard.ZSTD_VERSION != ENCODER:
        raise StoreError(
            f"cannot compress a layer: zstd is {_dotted(zstandard.ZSTD_VERSION)}, bake format 1 is {_dotted(ENCODER)}",
            hint="install the locked requirements of this Instar: pip install -r requirements.txt",
        )


def compressed(chunks: Iterable[bytes], *, threads: int = _THREADS) -> Iterator[bytes]:
    """Yield ``chunks`` as one zstd frame. Memory: some jobs, however long the input is."""
    import zstandard

    options = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        threads=threads,
        job_size=_JOB_BYTES,
        overlap_log=_WHOLE_WINDOW,
        write_checksum=True,
        write_content_size=False,
        write_dict_id=False,
    )
    encoder = zstandard.ZstdCompressor(compression_params=options).compressobj()
    for chunk in chunks:
        yield encoder.compress(chunk)
    yield encoder.flush()


def plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what the zstd frames in ``chunks`` hold, at most 1 MiB at a time. Raises ValueError for other bytes."""
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT_BYTES)
    source = cast(BinaryIO, _Source(chunks))
    reader = decoder.stream_reader(source, read_across_frames=True)
    try:
        while chunk := reader.read(_READ_BYTES):
            yield chunk
    except zstandard.ZstdError as error:
        raise ValueError(f"it is not zstd: {error}") from error


def gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``chunks`` as one gzip member, for tools that can't read zstd. Its bytes depend on this machine's zlib."""
    encoder = zlib.compressobj(wbits=31)
    for chunk in chunks:
        yield encoder.compress(chunk)
    yield encoder.flush()


def gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what the gzip members in ``chunks`` hold, at most 1 MiB at a time. Raises ValueError for other bytes."""
    decoder, began = zlib.decompressobj(wbits=31), False
    try:
        for chunk in filter(None, chunks):
            rest = chunk
            while rest:
                if decoder.eof:  # another member follows
                    decoder, began = zlib.decompressobj(wbits=31), False
                began = True
                if piece := decoder.decompress(rest, _READ_BYTES):
                    yield piece
                rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            while not decoder.eof and (piece := decoder.decompress(b"", _READ_BYTES)):
                yield piece
    except zlib.error as error:
        raise ValueError(f"it is not gzip: {error}") from error
    if not (began and decoder.eof):
        raise ValueError("it is not gzip: it ends in the middle")


class _Source:
    """The one method of a file that the decoder calls. It takes pieces of any length; an empty one is the end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = filter(None, chunks)

    def read(self, size: int = -1) -> bytes:
        return next(self._chunks, b"")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
