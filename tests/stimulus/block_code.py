"""The test picture and the test sound of BLOCK_CODE.md, drawn and played by numbers: what `publisher.py` sends."""
import numpy as np

SAMPLE_RATE = 48_000
AUDIO_CHUNK = 480  # 10 ms: the only size an unbuffered source of libwebrtc takes
WHITE, BLACK, NEUTRAL = 235, 16, 128
COLUMNS, ROWS, CODE_ROWS, FLASH_ROW = 16, 18, 7, 16
SYNC = 0xACE1
FLASH_MS = 100
IDENTITIES = 18  # distinct colours, tones and beeps
TONE_LEVEL, BEEP_LEVEL = 0.1, 0.25
LUMA = (60, 105, 150)
CHROMA = ((168, 128), (148, 163), (108, 163), (88, 128), (108, 93), (148, 93))


def crc16(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def payload(participant, frame, sent_ms):
    body = bytes([participant]) + frame.to_bytes(4, "big") + (sent_ms % (1 << 40)).to_bytes(5, "big")
    return body + crc16(body).to_bytes(2, "big")


class Picture:
    """I420 frames of one participant; only the code rows are written per frame."""

    def __init__(self, width, height, fps, participant):
        assert width % 2 == 0 and height % 2 == 0 and width >= 96 and height >= 54, "even size of at least 96x54"
        self.width, self.height, self.fps, self.participant = width, height, fps, participant
        self.x = np.array([2 * (c * width // 32) for c in range(COLUMNS)] + [width])
        self.y = np.array([2 * (r * height // 36) for r in range(ROWS)] + [height])
        self.dark, self.lit = self._background(BLACK), self._background(WHITE)

    def _background(self, flash_luma):
        w, h = self.width, self.height
        top, flash = self.y[CODE_ROWS], self.y[FLASH_ROW]
        k = self.participant % IDENTITIES
        (u, v) = CHROMA[k % 6]
        luma = np.full((h, w), LUMA[k // 6], np.uint8)
        luma[flash:] = flash_luma
        planes = [luma]
        for value in (u, v):
            plane = np.full((h // 2, w // 2), value, np.uint8)
            plane[: top // 2] = NEUTRAL
            plane[flash // 2 :] = NEUTRAL
            planes.append(plane)
        return np.concatenate([p.ravel() for p in planes])

    def flashes(self, n):
        return (n * 1000) % (self.fps * 1000) < FLASH_MS * self.fps

    def draw(self, n, sent_ms):
        """The frame as a contiguous uint8 array; valid until the next call."""
        frame = self.lit if self.flashes(n) else self.dark
        code = SYNC.to_bytes(2, "big") + payload(self.participant, n, sent_ms)
        bits = np.unpackbits(np.frombuffer(code, np.uint8)).reshape(CODE_ROWS, COLUMNS)
        levels = np.where(bits, WHITE, BLACK).astype(np.uint8)
        row = np.repeat(levels, np.diff(self.x), axis=1)
        code_height = int(self.y[CODE_ROWS])
        rows = np.repeat(row, np.diff(self.y[: CODE_ROWS + 1]), axis=0)
        frame[: code_height * self.width] = rows.ravel()
        return frame


class Sound:
    """One second of tone and beep; whole cycles per second, so it repeats."""

    def __init__(self, participant):
        k = participant % IDENTITIES
        i = np.arange(SAMPLE_RATE)
        second = TONE_LEVEL * np.sin(2 * np.pi * (400 + 150 * k) * i / SAMPLE_RATE)
        beep = BEEP_LEVEL * np.sin(2 * np.pi * (4000 + 200 * k) * i / SAMPLE_RATE)
        second[: SAMPLE_RATE // 10] += beep[: SAMPLE_RATE // 10]
        self.second = np.round(second * 32767).astype(np.int16)

    def chunk(self, first):
        at = first % SAMPLE_RATE
        return self.second[at : at + AUDIO_CHUNK]


def write_raw(prefix, size, fps, participant, seconds):
    """Offline: the same pictures and sound as files for FFmpeg, to test the drawing without a server."""
    picture, sound = Picture(*size, fps, participant), Sound(participant)
    with open(prefix + ".yuv", "wb") as out:
        for n in range(int(seconds * fps)):
            out.write(picture.draw(n, n * 1000 // fps).tobytes())
    with open(prefix + ".s16", "wb") as out:
        for first in range(0, int(seconds * SAMPLE_RATE), AUDIO_CHUNK):
            out.write(sound.chunk(first).tobytes())
