"""Fixtures of the widgets' tests: shown widgets, the family at hand, one without extras, and a drawn picture."""

from dataclasses import replace

import pytest
from PySide6.QtGui import QColor, QImage

from desktop.theme import Theme, apply, set_style
from pipelines.spec.families.base import Prediction
from pipelines.spec.families.sd1 import SD1


@pytest.fixture(params=list(Theme))
def theme(request, qapp):
    """Each theme in turn."""
    set_style(qapp)
    apply(qapp, request.param)
    return request.param


@pytest.fixture
def shown(qtbot):
    """Shows a widget at a size and closes it after the test."""

    def show(widget, width=320, height=240):
        qtbot.addWidget(widget)
        widget.resize(width, height)
        widget.show()
        qtbot.waitExposed(widget)
        return widget

    return show


@pytest.fixture
def plain_family():
    """A family that has neither a negative prompt nor guidance, and predicts a flow."""
    sampling = replace(SD1.sampling, scheduler="flow_euler", guidance_scale=1.0)
    return replace(SD1, supports=frozenset(), prediction=Prediction.FLOW, sampling=sampling)


@pytest.fixture
def picture():
    """100 x 50, red, with one blue pixel in the corner at the top left."""
    image = QImage(100, 50, QImage.Format.Format_RGB32)
    image.fill(QColor("red"))
    image.setPixelColor(0, 0, QColor("blue"))
    return image
