"""The same work in a plain thread beside an empty window, with nothing done about stalls.

argv: the model's folder, steps, guidance scale, side in pixels.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QApplication, QMainWindow

from tests.benchmarks.probes.first_input import FirstInput
from tests.benchmarks.probes.ticker import RunQueue, Ticker
from tests.benchmarks.probes.told import answer


class Work(QObject):
    done = Signal()

    def __init__(self, ticker: Ticker) -> None:
        super().__init__()
        self._ticker = ticker

    def run(self) -> None:
        try:
            self._draw()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _draw(self) -> None:
        self._ticker.phase = "import"
        import torch
        from diffusers import StableDiffusionPipeline

        self._ticker.phase = "sampling"
        folder, steps, guidance, side = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
        pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        pipe(
            "a large red circle", num_inference_steps=steps, guidance_scale=guidance, width=side, height=side
        )
        self.done.emit()


if __name__ == "__main__":
    app = QApplication(sys.argv[:1])
    window = QMainWindow()
    window.show()
    ticker = Ticker(window)
    work = Work(ticker)
    work.done.connect(
        lambda: answer(net=RunQueue.known(), **ticker.summary()), Qt.ConnectionType.QueuedConnection
    )
    FirstInput(window, lambda _: threading.Thread(target=work.run, daemon=True).start())
    app.exec()
