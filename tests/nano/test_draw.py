"""Pictures, clips and tunes, decoded as a user's files are, show and sound what their scene says, as measured here."""

from __future__ import annotations

from itertools import product
from random import Random

import numpy as np
import pytest

from omnirm.nano.draw import BASE_HERTZ, RGB, render
from omnirm.nano.scenes import ATTRIBUTES, Scene
from omnirm.nano.writer import Drawing
from omnirm.preprocessing import Audio, Image, Media, Video
from omnirm.training.nano.stages import prepare_drawn
from omnirm.types import Modality, Part

NUMBER = {"one": 1, "two": 2, "three": 3, "four": 4}
PLACES = ("top", "middle", "bottom")


def every(kind: str) -> list[Scene]:
    names, values = zip(*ATTRIBUTES[kind].items(), strict=True)
    return [Scene(kind, tuple(zip(names, chosen, strict=True))) for chosen in product(*values)]  # type: ignore[arg-type]


def decoded(scene: Scene, seed: float, modality: Modality) -> Media:
    return prepare_drawn(Part(modality, Drawing(scene, seed)))


def inked(pixels: np.ndarray) -> np.ndarray:
    """Where something is drawn: bool [h, w] of uint8 [h, w, 3]; nearer to its colour than to the background."""
    distance = np.abs(pixels - np.median(pixels.reshape(-1, 3), axis=0)).sum(axis=-1)
    return distance > distance.max() / 2


def color_of(pixels: np.ndarray, ink: np.ndarray) -> str:
    found = np.median(pixels[ink].astype(float), axis=0)
    return min(RGB, key=lambda name: float(np.abs(found - np.array(RGB[name])).sum()))


def shape_of(ink: np.ndarray) -> str:
    """The shape in a cell, by how much of its box it fills and whether it reaches the corners below."""
    ys, xs = np.nonzero(ink)
    box = ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    fill = box.mean()
    if fill > 0.87:
        return "square"
    if fill > 0.68:
        return "circle"
    return "triangle" if box[-2:, :2].any() and box[-2:, -2:].any() else "cross"


def occupied(ink: np.ndarray) -> list[tuple[int, int]]:
    """Cells (row, column) of the 3 x 3 grid whose middle is drawn on."""
    middles = {(r, c): ink[r * 28 + 11 : r * 28 + 17, c * 28 + 11 : c * 28 + 17] for r in range(3) for c in range(3)}
    return [at for at, middle in middles.items() if middle.mean() > 0.5]


def cell(array: np.ndarray, row: int, column: int) -> np.ndarray:
    return array[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]


def test_every_picture_shows_its_scene() -> None:
    rng = Random(0)
    for scene in every("picture"):
        image = decoded(scene, rng.random(), "image")
        assert isinstance(image, Image)
        assert image.pixels.shape == (84, 84, 3)
        ink = inked(image.pixels)
        cells = occupied(ink)
        assert len(cells) == NUMBER[scene["count"]], scene
        assert {PLACES[row] for row, _ in cells} == {scene["place"]}, scene
        assert color_of(image.pixels, ink) == scene["color"], scene
        assert {shape_of(cell(ink, *at)) for at in cells} == {scene["shape"]}, scene


def test_every_clip_shows_its_scene_and_moves_as_it_says() -> None:
    rng = Random(1)
    for scene in every("clip"):
        video = decoded(scene, rng.random(), "video")
        assert isinstance(video, Video)
        assert video.frames.shape == (4, 3, 84, 84)
        assert video.duration == pytest.approx(2.0, abs=0.01)
        frames = video.frames.transpose(0, 2, 3, 1)
        centres = []
        for frame in frames:
            ys, xs = np.nonzero(inked(frame))
            centres.append((xs.mean(), ys.mean()))
        steps = np.diff(np.array(centres), axis=0)
        axis, sign = {"right": (0, 1), "left": (0, -1), "down": (1, 1), "up": (1, -1)}[scene["direction"]]
        assert (sign * steps[:, axis] > 5).all(), scene
        assert (np.abs(steps[:, 1 - axis]) < 1.5).all(), scene
        ink = inked(frames[0])
        cells = occupied(ink)
        assert len(cells) == NUMBER[scene["count"]], scene
        assert color_of(frames[0], ink) == scene["color"], scene
        assert {shape_of(cell(ink, *at)) for at in cells} == {scene["shape"]}, scene


def strongest(note: np.ndarray) -> tuple[float, float]:
    """Of a note of a quarter of a second: the strongest frequency in Hz, and its octave's strength relative to it."""
    spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)), 8 * len(note)))
    at = int(spectrum.argmax())
    octave = spectrum[int(1.95 * at) : int(2.05 * at)].max()
    return at * 16000 / (8 * len(note)), float(octave / spectrum[at])


def test_every_tune_sounds_like_its_scene() -> None:
    rng = Random(2)
    for scene in every("tune"):
        audio = decoded(scene, rng.random(), "audio")
        assert isinstance(audio, Audio)
        assert audio.sampling_rate == 16000
        notes = audio.samples.reshape(-1, 4000)
        assert len(notes) == NUMBER[scene["notes"]], scene
        hertz, octaves = zip(*(strongest(note) for note in notes), strict=True)
        ratios = np.array(hertz[1:]) / np.array(hertz[:-1])
        expected = {"rising": 1.26, "falling": 1 / 1.26, "flat": 1.0}[scene["contour"]]
        assert ratios == pytest.approx(expected, rel=0.02), scene
        middle = float(np.exp(np.log(hertz).mean()))
        assert min(BASE_HERTZ, key=lambda name: abs(np.log(middle / BASE_HERTZ[name]))) == scene["pitch"], scene
        assert all((octave > 0.2) == (scene["timbre"] == "buzzing") for octave in octaves), scene
        assert 0.15 < np.abs(audio.samples).max() <= 1.0
        silent = np.abs(notes[:, -600:]).max()
        assert silent < 1e-3, "notes are apart"


@pytest.mark.parametrize("kind", ["picture", "clip", "tune"])
def test_a_drawing_is_the_same_bytes_for_the_same_seed_and_differs_for_another(kind: str) -> None:
    scene = every(kind)[7]
    assert Drawing(scene, 0.25).render() == Drawing(scene, 0.25).render()
    assert Drawing(scene, 0.25).render()[0] != Drawing(scene, 0.75).render()[0]


def test_a_note_has_no_medium() -> None:
    with pytest.raises(ValueError, match="'list' has no media file"):
        render(every("list")[0], Random(0))
