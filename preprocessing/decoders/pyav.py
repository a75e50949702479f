"""Video through PyAV, which brings its own FFmpeg: the default decoder.

For `video.py`. First reads the packets without decoding (frame count, time stamps, key frames), then decodes only what
the wanted frames need: groups of pictures without a wanted frame are passed over, and of the others the frames nothing
refers to are dropped inside the decoder. Should a wanted frame not come out that way, the clip is decoded once more
without shortcuts; if it still does not, that is an error. Knows nothing of sampling or resizing.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from omnirm.preprocessing.decoders.base import (
    RESTORE,
    PendingFrame,
    StreamInfo,
    VideoReader,
    check_deadline,
    check_pixels,
)
from omnirm.preprocessing.sniff import Sniffed
from omnirm.preprocessing.source import Source
from omnirm.preprocessing.types import Limits, MediaCorrupt, MediaError, MediaTooLarge, MediaUnsupported

# Codecs whose key frames start afresh, so that groups of pictures can be passed over.
_SEEKABLE = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "theora", "flv1"})
_AV1 = frozenset({"libdav1d", "libaom-av1"})
_DROPPING = frozenset({"h264", "hevc"})  # codecs whose decoder may drop unreferenced frames one at a time
_CUMULATIVE = frozenset({"gif", "apng"})  # frames build on each other, whatever the packets say
_MAX_PACKETS = 5_000_000


class PyAVDecoder:
    """The decoder protocol on PyAV."""

    name = "pyav"

    def version(self) -> str:
        """Version of PyAV and of the FFmpeg in it."""
        import av

        return f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"

    @contextmanager
    def open(self, source: Source, found: Sniffed, limits: Limits, deadline: float) -> Iterator[VideoReader]:
        """See `Decoder.open`."""
        yield _PyAVReader(source, found, limits, deadline)


class _PyAVReader:
    def __init__(self, source: Source, found: Sniffed, limits: Limits, deadline: float) -> None:
        self._source, self._found, self._limits = source, found, limits
        with self._container() as (container, stream):
            self._index(container, stream, deadline)

    def _index(self, container: Any, stream: Any, deadline: float) -> None:
        """Learn every frame's time stamp and which are key frames, without decoding."""
        stamps, keys, ends = [], [], []
        damaged = passed = 0
        for packet in container.demux(stream):
            check_deadline(self._source.name, deadline)
            if packet.size == 0:
                continue
            if packet.is_discard:
                passed += 1
                continue
            damaged += packet.is_corrupt
            stamp = packet.pts if packet.pts is not None else packet.dts
            stamps.append(stamp)
            keys.append(packet.is_keyframe)
            ends.append(packet.duration or 0)
            if len(stamps) > _MAX_PACKETS:
                raise MediaTooLarge(self._source.name, f"it has over {_MAX_PACKETS} frames", "give a shorter video")
        name = self._source.name
        if not stamps:
            raise MediaCorrupt(name, "its video stream holds no frames", RESTORE)
        if damaged:
            raise MediaCorrupt(name, f"{damaged} of its {len(stamps)} video packets are damaged or cut off", RESTORE)
        if self._found.demuxer == "mov" and len(stamps) + passed < stream.frames:
            raise MediaCorrupt(name, f"only {len(stamps) + passed} of its {stream.frames} frames are there", RESTORE)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        codec = stream.codec_context.name
        self._codec = "av1" if codec in _AV1 else codec
        self._base = stream.time_base
        self._timed = all(stamp is not None for stamp in stamps) and len(set(stamps)) == len(stamps)
        self._keys = keys
        if self._timed:
            self._packet_stamps = stamps
            self._stamps = sorted(stamps)
            span = (max(s + d for s, d in zip(stamps, ends, strict=True)) - self._stamps[0]) * self._base
            duration = float(span)
            if duration <= 0:
                duration = len(stamps) / float(rate) if rate else 0.0
            times: Sequence[float] = [float(stamp * self._base) for stamp in self._stamps]
        else:  # a bare stream without times: frames are told apart by their order alone
            duration = len(stamps) / float(rate or 25)
            times = [i / float(rate or 25) for i in range(len(stamps))]
        fps = len(stamps) / duration if duration > 0 else float(rate or 25)
        self.info = StreamInfo(len(stamps), fps, duration, times)

    def read(self, indices: Sequence[int], deadline: float) -> Iterator[PendingFrame]:
        """See `VideoReader.read`."""
        converter = _Converter(self._source.name, self._limits)
        given = 0
        if self._timed:
            for frame in self._decode(indices, deadline, shortcuts=True):
                yield converter.pending(frame)
                given += 1
        if given < len(indices):
            for frame in self._decode(indices, deadline, shortcuts=False, skip=given):
                yield converter.pending(frame)
                given += 1
        if given < len(indices):
            raise MediaCorrupt(
                self._source.name,
                f"only {given} of the {len(indices)} wanted frames can be decoded (frame {indices[given]} cannot)",
                RESTORE,
            )

    def _decode(self, indices: Sequence[int], deadline: float, *, shortcuts: bool, skip: int = 0) -> Iterator[Any]:
        """The wanted frames in order from `indices[skip]` on, ending early at the first that does not come out."""
        wanted = list(indices[skip:])
        feed, keep = self._plan(wanted) if shortcuts else (None, None)
        picked = _pick(self._frames(feed, keep, deadline), self._stamps if self._timed else None, wanted, shortcuts)
        try:
            for frame in picked:
                if frame.is_corrupt and shortcuts:
                    return
                if frame.is_corrupt:
                    raise MediaCorrupt(self._source.name, "a wanted frame is damaged", RESTORE)
                yield frame
        except MediaError:
            if not shortcuts:
                raise
            if time.monotonic() > deadline:
                raise

    def _plan(self, wanted: Sequence[int]) -> tuple[list[bool] | None, frozenset[int] | None]:
        """Which packets to decode, and the time stamps of those that must not be dropped (None: all)."""
        wanted_stamps = frozenset(self._stamps[i] for i in wanted)
        keep = wanted_stamps if self._codec in _DROPPING else None
        if self._codec in _CUMULATIVE or (self._codec not in _SEEKABLE and not all(self._keys)):
            return None, keep
        feed = [False] * len(self._keys)
        starts: list[int] = []
        for position, (stamp, key) in enumerate(zip(self._packet_stamps, self._keys, strict=True)):
            if key:
                starts.append(position)
            if stamp not in wanted_stamps:
                continue
            # the last key frame at or before the frame, in decoding order and in display order
            start = next((s for s in reversed(starts) if self._packet_stamps[s] <= stamp), 0)
            for i in range(position, start - 1, -1):
                if feed[i]:
                    break
                feed[i] = True
        return feed, keep

    def _frames(self, feed: list[bool] | None, keep: frozenset[int] | None, deadline: float) -> Iterator[Any]:
        """Decoded frames of the packets in `feed` (None: all), in display order."""
        afresh = not all(self._keys)
        with self._container() as (container, stream):
            context = stream.codec_context
            position, fed = -1, False
            last = len(self._keys) - 1 if feed is None else max(i for i, on in enumerate(feed) if on)
            for packet in container.demux(stream):
                check_deadline(self._source.name, deadline)
                if packet.size == 0 or position >= last:
                    break
                if not packet.is_discard:
                    position += 1
                    if feed is not None and not feed[position]:
                        if fed and afresh:
                            yield from _decoded(context, None, self._source.name)
                            context.flush_buffers()
                        fed = False
                        continue
                fed = True
                if keep is not None:
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    context.skip_frame = "DEFAULT" if stamp in keep else "NONREF"
                yield from _decoded(context, packet, self._source.name)
            yield from _decoded(context, None, self._source.name)

    @contextmanager
    def _container(self) -> Iterator[tuple[Any, Any]]:
        import av

        name = self._source.name
        with ExitStack() as stack:
            stream_in = stack.enter_context(self._source.open())
            try:
                container = av.open(
                    stream_in,
                    format=self._found.demuxer,  # never guessed: a playlist would open other addresses
                    container_options={"protocol_whitelist": ""},
                    metadata_errors="replace",
                    buffer_size=2**18,
                )
            except (av.error.FFmpegError, ValueError, UnicodeError) as error:
                raise MediaCorrupt(name, f"cannot be opened as video: {_reason(error)}", RESTORE) from error
            stack.enter_context(container)
            stream = container.streams.best("video")
            if stream is None:
                raise MediaUnsupported(name, "it holds no video stream", "give a video, or judge it as audio")
            context: Any = stream.codec_context
            if context is None:
                raise MediaUnsupported(name, "its video codec is not known", "convert it to H.264 in MP4")
            check_pixels(name, context.height, context.width, self._limits)
            context.options = {"max_pixels": str(self._limits.max_pixels)}
            context.thread_type = "AUTO"
            try:
                yield container, stream
            except av.error.FFmpegError as error:
                raise MediaCorrupt(name, f"cannot be decoded: {_reason(error)}", RESTORE) from error


def _pick(frames: Iterator[Any], stamps: Sequence[int] | None, wanted: Sequence[int], exact: bool) -> Iterator[Any]:
    """Of `frames` those at the display positions `wanted`, ending at the first that is missing.

    With time stamps, a frame stands for a position if it bears its stamp; where not `exact`, also if it is the last one
    shown at that time. Without them, positions are counted.
    """
    if stamps is None:
        positions = iter(wanted)
        position = next(positions, None)
        for count, frame in enumerate(frames):
            if count == position:
                yield frame
                position = next(positions, None)
                if position is None:
                    return
        return
    due = 0
    waiting: dict[int, Any] = {}
    before: Any = None
    targets = [stamps[i] for i in wanted]
    remaining = frozenset(targets)
    for frame in frames:
        if frame.pts is None:
            continue
        if frame.pts in remaining:
            waiting[frame.pts] = frame
        while due < len(targets) and targets[due] in waiting:
            yield waiting.pop(targets[due])
            due += 1
        if not exact:
            while due < len(targets) and before is not None and before.pts < targets[due] < frame.pts:
                following = bisect_right(stamps, before.pts)
                if following >= len(stamps) or stamps[following] != targets[due]:
                    return  # more than one frame is missing here
                yield before
                due += 1
        before = frame
        if due == len(targets):
            return
        if len(waiting) > 16:
            return


class _Converter:
    """Turns PyAV frames into RGB arrays with the pixels torchcodec would give, and upright."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._own = threading.local()  # neither is safe to share between threads

    def pending(self, frame: Any) -> PendingFrame:
        check_pixels(self._name, frame.height, frame.width, self._limits)
        return lambda: self._rgb(frame)

    def _rgb(self, frame: Any) -> np.ndarray:
        import av

        rotation = round(frame.rotation / 90) % 4
        if not hasattr(self._own, "graphs"):
            self._own.graphs = {}
            self._own.reformatter = av.video.reformatter.VideoReformatter()
        if frame.format.components[0].bits > 8:
            frame = self._filtered(frame)
        else:
            frame = self._own.reformatter.reformat(frame, format="rgb24")
        plane = frame.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width * 3]
        pixels = lines.reshape(frame.height, frame.width, 3)
        return np.ascontiguousarray(np.rot90(pixels, rotation) if rotation else pixels)

    def _filtered(self, frame: Any) -> Any:
        """More than 8 bits: the plain conversion differs between versions of FFmpeg, the scale filter does not."""
        import av

        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key not in self._own.graphs:
            graph = av.filter.Graph()
            source = graph.add(
                "buffer",
                f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
                f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
            )
            scale = graph.add("scale", f"{frame.width}:{frame.height}:flags=bicubic")
            layout, sink = graph.add("format", "rgb24"), graph.add("buffersink")
            source.link_to(scale)
            scale.link_to(layout)
            layout.link_to(sink)
            graph.configure()
            self._own.graphs[key] = graph
        graph = self._own.graphs[key]
        graph.push(frame)
        return graph.pull()


def _decoded(context: Any, packet: Any, name: str) -> Sequence[Any]:
    import av

    try:
        return context.decode(packet)
    except av.error.EOFError:
        return ()
    except av.error.FFmpegError as error:
        raise MediaCorrupt(name, f"cannot be decoded: {_reason(error)}", RESTORE) from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
