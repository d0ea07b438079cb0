"""N7: the guard of conftest.py itself; without it the count of 0 calls would prove nothing."""

import os
import socket
import threading

import pytest


@pytest.mark.parametrize("address", [("93.184.216.34", 80), ("127.0.0.1", 9)])
def test_a_call_is_refused_and_counted(no_network, address):
    with socket.socket() as s, pytest.raises(OSError, match="offline"):
        s.connect(address)
    with socket.socket() as s, pytest.raises(OSError, match="offline"):
        socket.create_connection(address, timeout=1)
    assert no_network == [f"connect {address}"] * 2
    no_network.clear()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets on Windows")
def test_sockets_inside_the_computer_work():
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        left.sendall(b"hello")
        assert right.recv(5) == b"hello"


@pytest.mark.local_server
def test_a_marked_test_reaches_its_own_server_and_no_other(no_network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=lambda: server.accept()[0].close())
        answer.start()
        socket.create_connection(server.getsockname(), timeout=5).close()
        answer.join(60)
    with socket.socket() as s, pytest.raises(OSError, match="offline"):
        s.connect(("93.184.216.34", 80))
    assert len(no_network) == 1
    no_network.clear()


def test_the_libraries_are_told_to_stay_offline():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["QT_QPA_PLATFORM"] == "offscreen"
