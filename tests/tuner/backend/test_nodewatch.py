"""A search on a cluster without nodes says so, once, with what to do; it goes on with the first node, or gives up."""

from __future__ import annotations

import socket
import threading

import pytest

from tuner.backend.cluster import reachable
from tuner.backend.nodewatch import GRACE, PATIENCE, NodeWatch, NoNode
from tuner.backend.raywords import RayWords

HERE = [{"address": "10.0.0.2"}, {"address": "10.0.0.3"}]


class Watched:
    """A watch by a clock of the test's own, without its threads: `seconds` pass, in each of which the head answers."""

    def __init__(self, minutes=None):
        self.now, self.said, self.left = 0.0, [], []
        self.watch = NodeWatch(
            "s", "h:6379", "1 CPU", lambda: HERE, minutes and 60 * minutes, self.said.append, lambda: self.now,
            self.left.append,
        )  # fmt: skip
        self.watch.heard(HERE)

    def seconds(self, count, answer):
        for _ in range(count):
            self.now += 1
            if answer is not None:
                self.watch.heard(answer)
            self.watch.tick()


def test_a_cluster_that_lost_its_nodes_is_told_once_and_goes_on():
    """A while without a node: one line with the lost nodes and what to do; another when one is back."""
    at = Watched()
    at.seconds(int(PATIENCE), [])
    assert at.said == []
    at.seconds(3600, [])
    (line,) = at.said
    for words in ("no node that can hold a trial (1 CPU) has answered for", "10.0.0.2, 10.0.0.3", "ray start --address",
                  "--give-up-after MINUTES", "'tuner resume s'"):  # fmt: skip
        assert words in line
    at.watch.look()  # it waits for ever
    at.seconds(1, HERE[:1])
    assert at.said[1:] == ["nodes: 10.0.0.2 can hold a trial again; the search continues"]
    at.seconds(int(PATIENCE) + 1, [])
    assert len(at.said) == 3


def test_a_head_that_does_not_answer_is_told_as_that():
    """No answer at all is the head's silence, not the nodes'."""
    at = Watched()
    at.seconds(int(PATIENCE) + 1, None)
    (line,) = at.said
    assert "head (h:6379) has not answered" in line and "start the cluster again and resume" in line
    assert "where a node was lost (its head may be slow to answer then)" in line and "ray start --address" in line


def test_a_short_cut_is_not_worth_a_word():
    """Ten seconds without an answer, and a node that is lost while another is there: nothing is said."""
    at = Watched(minutes=1)
    at.seconds(10, None)
    at.seconds(600, HERE[1:])
    assert at.said == []
    at.watch.look()


def test_it_gives_up_when_it_was_told_to():
    """--give-up-after 2: told that it will, then a failed job with the way to go on; a driver that Ray keeps waiting
    is ended.
    """
    at = Watched(minutes=2)
    at.seconds(120, [])
    at.watch.look()
    assert "leaves after 2 minutes (--give-up-after)" in at.said[0]
    at.seconds(1, [])
    with pytest.raises(NoNode, match=r"gave up \(--give-up-after 2\).*'tuner resume s --address ...'") as error:
        at.watch.look()
    assert error.value.exit_status == 1
    assert not at.left
    at.seconds(int(GRACE) + 1, None)
    assert at.left[0] == 1
    assert at.said[-1].startswith("error: gave up")


def test_a_node_counts_while_it_takes_a_connection():
    """Of two nodes that the head calls alive, one whose port is closed does not count."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        one = {"address": "127.0.0.1", "port": port}
        with socket.create_server(("127.0.0.1", 0)) as gone:
            other = {"address": "127.0.0.1", "port": gone.getsockname()[1]}
        assert reachable([one, other]) == [one]
    assert reachable([one, other]) == reachable([]) == []


def test_it_asks_while_it_is_open():
    """A context manager with a thread: it asks the head, also where that raises, and ends."""
    asked = threading.Event()

    def nodes():
        asked.set()
        raise ConnectionError("away")

    before = threading.active_count()
    with NodeWatch("s", "h:1", "1 CPU", nodes, None) as watch:
        assert asked.wait(600)
        assert threading.active_count() > before
        watch.look()


def test_what_ray_says_goes_to_a_file(tmp_path):
    """Kept until there is a file for it; the user is told once where it is, and gets none of its lines."""
    said = []
    words = RayWords(said.append)
    words(
        {"pid": "raylet", "lines": ["Raylet is terminated.\n  *** StackTrace ***"], "is_err": False},
        ignore_prefix=False,
    )
    assert not said
    words.to(tmp_path / "ray.log")
    words({"pid": "raylet", "lines": ["The node has been marked dead"]})
    assert said == [f"note: Ray reports problems with its nodes or workers: {tmp_path / 'ray.log'}"]
    text = (tmp_path / "ray.log").read_text()
    assert "Raylet is terminated" in text and "StackTrace" in text and "marked dead" in text


def test_a_search_without_trouble_has_no_such_file(tmp_path):
    """Nothing said, nothing written."""
    RayWords().to(tmp_path / "ray.log")
    assert not list(tmp_path.iterdir())
