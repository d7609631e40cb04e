"""Results in an object store: what a driver mirrors is a study from which another machine goes on exactly."""

import json
import shutil
import time

import pytest

from results.store import remote
from results.store.lock import StudyLock
from results.store.remote import Known, Store, StoreMirror
from results.store.tables import compact
from search_spaces import InputError


@pytest.fixture(params=["object store", "file://"])
def store(request, tmp_path):
    """A store that cannot append or rename, in memory, and a folder by its URI."""
    if request.param == "file://":
        return remote.open_store((tmp_path / "bucket").as_uri())
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    return Store(PyFileSystem(FSSpecHandler(memory)), "bucket/prefix", "memory://bucket/prefix")


@pytest.fixture
def machine(tmp_path, monkeypatch, store):
    """`machine(name)`: the working folder of another machine, for the same store."""
    monkeypatch.setattr(remote, "open_store", lambda uri: store)

    def on(name):
        monkeypatch.setenv("TUNER_CACHE", str(tmp_path / name))
        return remote.working_folder(store.uri)

    return on


def mirror_of(store, folder):
    return StoreMirror(store, folder, Known.load(folder))


def put_study(toy, results, name="s", events=15):
    """A study that was driven for some epochs in a working folder, with checkpoints."""
    study = toy.create(name, budget={"trials": 4, "hours": None})
    toy.drive(study, events=events)
    study.close()
    shutil.move(toy.folder / name, results / name)
    for trial in (0, 1):
        (results / name / "checkpoints" / str(trial)).mkdir(parents=True)
        for file in ("best.pt", "last.pt"):
            (results / name / "checkpoints" / str(trial) / file).write_bytes(b"%d" % trial + file.encode() * 100)
    return results / name


def content(folder):
    """Relative path -> bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"
    }


def test_a_study_comes_back_as_it_was(toy, store, machine):
    """Log, tables and checkpoints pushed from one machine are the same bytes on another, after `sync` there."""
    here = put_study(toy, machine("a"))
    compact(here)
    assert mirror_of(store, here).push() > 5
    there = machine("b") / "s"
    assert {"events.jsonl", "trials.parquet"} <= set(content(there)) and not (there / "checkpoints").exists()
    read, put = remote.sync(there)
    assert read == 4 and put == 0
    assert content(there) == content(here)


def test_only_what_changed_is_sent(toy, store, machine):
    """A second push puts nothing, also by a driver that was started anew; a new epoch puts the log's last part."""
    here = put_study(toy, machine("a"))
    mirror_of(store, here).push()
    assert mirror_of(store, here).push() == 0
    with (here / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"note","seq":9999,"time":0}\n')
    assert mirror_of(store, here).push() == 1
    (here / "checkpoints" / "0" / "last.pt").unlink()
    mirror_of(store, here).push()
    assert "s/checkpoints/0/last.pt" not in store.list() and "s/checkpoints/0/best.pt" in store.list()


def test_a_long_log_travels_in_parts(toy, store, machine, monkeypatch):
    """Parts that are full are never sent again; half a line is not sent; what comes back is the log."""
    monkeypatch.setattr(remote, "PART", 1000)
    here = put_study(toy, machine("a"))
    whole = (here / "events.jsonl").read_bytes()
    sent = []
    monkeypatch.setattr(
        Store, "put", lambda self, path, source, put=Store.put: (sent.append(path), put(self, path, source))
    )
    mirror = mirror_of(store, here)
    for end in (1, 999, 1000, 1001, 2500, 2501, 5000, len(whole)):
        (here / "events.jsonl").write_bytes(whole[:end])
        mirror.push()
        objects = store.list("s/events")
        assert b"".join(store.read(p) for p in sorted(objects)) == whole[: whole[:end].rfind(b"\n") + 1]
    parts = [p for p in sent if "/events/" in p]
    assert len(parts) < 3 * len(whole) / 1000 + 8
    assert (machine("b") / "s" / "events.jsonl").read_bytes() == whole


def test_the_mirrored_log_is_never_behind_a_checkpoint(toy, store, machine, monkeypatch):
    """Checkpoints are put before the log, so whatever moment a machine dies at, no reported epoch is missing."""
    here = put_study(toy, machine("a"))
    order = []
    monkeypatch.setattr(Store, "put", lambda self, path, source: order.append(path))
    monkeypatch.setattr(Store, "stamp", lambda self, path: (0, 0))
    mirror_of(store, here).push()
    log = next(i for i, path in enumerate(order) if "/events/" in path)
    assert [path for path in order[:log] if "checkpoints" in path] == [p for p in order if "checkpoints" in p]


def test_another_machine_goes_on_where_the_mirror_ends(toy, store, machine, tuner):
    """Pulled elsewhere and resumed there, the study ends as it would have; the first machine then takes that over."""
    from tuner.study.study import Study

    here = put_study(toy, machine("a"))
    mirror_of(store, here).push()
    there = machine("b") / "s"
    again = Study.resume(there, {}, [])
    toy.drive(again)
    again.close()
    mirror_of(store, there).push()
    whole = toy.create("whole", budget={"trials": 4, "hours": None})
    toy.drive(whole)
    whole.close()
    assert tuner.decisions(there) == tuner.decisions(toy.folder / "whole")
    assert machine("a") == here.parent
    assert (here / "events.jsonl").read_bytes() == (there / "events.jsonl").read_bytes()


def test_what_is_further_here_is_kept(toy, store, machine):
    """A machine whose last events never reached the store keeps them when it looks again, and can send them."""
    here = put_study(toy, machine("a"))
    mirror_of(store, here).push()
    line = b'{"event":"note","seq":9999,"time":0}\n'
    with (here / "events.jsonl").open("ab") as file:
        file.write(line)
    assert machine("a") == here.parent and (here / "events.jsonl").read_bytes().endswith(line)
    assert remote.sync(here)[1] == 1
    assert (machine("b") / "s" / "events.jsonl").read_bytes().endswith(line)


def test_two_different_pasts_are_not_mixed(toy, store, machine, capsys):
    """Another machine went on from an earlier state: readers are warned, the study cannot go on here, and nothing of it
    is changed; other studies come.
    """
    here = put_study(toy, machine("a"))
    mirror_of(store, here).push()
    there = machine("b") / "s"
    for folder, count in ((here, 1), (there, 3)):
        with (folder / "events.jsonl").open("ab") as file:
            file.write(b'{"event":"%s","seq":9999,"time":0}\n' % folder.parts[-3].encode() * count)
    mirror_of(store, there).push()
    mirror_of(store, put_study(toy, there.parent, "z")).push()
    before = (here / "events.jsonl").read_bytes()
    results = machine("a")
    assert "move that folder away to use the store's" in capsys.readouterr().err
    assert (results / "z" / "events.jsonl").exists()
    with pytest.raises(InputError, match="move that folder away to use the store's"):
        remote.sync(here)
    assert (here / "events.jsonl").read_bytes() == before


def test_a_driver_elsewhere_is_respected(toy, store, machine, monkeypatch):
    """A study that another host mirrored a moment ago is refused; after three silent minutes it is free."""
    here = put_study(toy, machine("a"))
    driver = {"host": "other", "pid": 7, "time": time.time()}
    store.put("s/driver.json", json.dumps(driver).encode())
    with pytest.raises(InputError, match=r"a search on other \(pid 7\) mirrored this study"), remote.mirrored(here):
        pass
    store.put("s/driver.json", json.dumps({**driver, "time": time.time() - 300}).encode())
    with remote.mirrored(here):
        assert json.loads(store.read("s/driver.json"))["host"] != "other"
    assert "s/driver.json" not in store.list() and "s/events/000000.jsonl" in store.list()


@pytest.mark.parametrize(("silent", "refused"), [(150, True), (181, False)])
def test_a_driver_elsewhere_is_waited_for_three_rounds(toy, store, machine, silent, refused):
    """A driver that mirrors every minute is taken for gone after three minutes, not before."""
    here = put_study(toy, machine("a"))
    assert remote.EVERY == 60
    store.put("s/driver.json", json.dumps({"host": "other", "pid": 7, "time": time.time() - silent}).encode())
    if refused:
        with pytest.raises(InputError, match="mirrored this study"):
            mirror_of(store, here).refuse_others()
    else:
        mirror_of(store, here).refuse_others()


def test_a_driver_mirrors_again_and_again(toy, store, machine, monkeypatch, wait):
    """What is written while a driver runs is in the store soon after, not only at its end, and it says it is alive."""
    monkeypatch.setattr(remote, "EVERY", 0.02)
    here = put_study(toy, machine("a"))
    with remote.mirrored(here):
        for number in (9998, 9999):
            with (here / "events.jsonl").open("ab") as file:
                file.write(b'{"event":"note","seq":%d,"time":0}\n' % number)
            wait(
                lambda n=number: (
                    "s/events/000000.jsonl" in store.list() and b"%d" % n in store.read("s/events/000000.jsonl")
                )
            )
        first = json.loads(store.read("s/driver.json"))["time"]
        wait(lambda: json.loads(store.read("s/driver.json"))["time"] > first)


def test_a_store_that_fails_at_the_end_loses_nothing(toy, store, machine, monkeypatch, capsys):
    """The warning names the folder that has everything and the command that sends it."""
    here = put_study(toy, machine("a"))

    def fails(self):
        raise OSError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(StoreMirror, "push", fails)
        with remote.mirrored(here):
            pass
    assert "the bucket is away" in (said := capsys.readouterr().err) and "tuner sync s --results" in said
    assert remote.sync(here)[1] > 0


def test_a_running_study_is_not_touched_by_a_reader(toy, store, machine):
    """While this machine's driver holds the study, other commands do not write into its folder."""
    here = put_study(toy, machine("a"))
    mirror_of(store, here).push()
    (here / "events.jsonl").write_bytes(b"")
    with StudyLock(here):
        machine("a")
        assert (here / "events.jsonl").read_bytes() == b""
        with pytest.raises(InputError, match="its driver is running here"):
            remote.sync(here)


def test_commands_take_a_store(toy, tmp_path, monkeypatch, cli):
    """best, status and sync with the URI; a URI of no known kind and a store that is not one say so."""
    bucket = (tmp_path / "bucket").as_uri()
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "a"))
    here = put_study(toy, remote.working_folder(bucket))
    compact(here)
    mirror_of(remote.open_store(bucket), here).push()
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "b"))
    said = cli("best", "s", "--results", bucket)
    assert said.status == 0 and "best_per" in said.out
    assert "trials: " in cli("status", "s", "--results", bucket).out
    assert "4 objects downloaded" in cli("sync", "s", "--results", bucket).out
    assert "is not the working folder of a store" in cli("sync", "s", "--results", tmp_path / "plain").err
    said = cli("best", "--results", "nonsense://x")
    assert said.status == 2 and "give s3://BUCKET/PREFIX" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    "given", ["s3://KEYID:SE%2FCRET@bucket/p", "s3://bucket/p?access_key=KEYID&secret_key=SE%2FCRET"]
)
def test_a_key_in_a_uri_is_nowhere(given, toy, tmp_path, monkeypatch, cli, capsys):
    """Not in the folder's name, a file, an error, a warning or a printed command; the store still gets it, and the same
    bucket with another key, or with none, is the same folder.
    """
    import pyarrow.fs

    seen, local = [], pyarrow.fs.LocalFileSystem()

    def from_uri(uri):
        seen.append(uri)
        return local, str(tmp_path / "bucket")

    monkeypatch.setattr(pyarrow.fs, "FileSystem", type("FileSystem", (), {"from_uri": staticmethod(from_uri)}))
    monkeypatch.setattr(remote, "_GIVEN", {})
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    results = remote.working_folder(given)
    here = put_study(toy, results)

    def fails(self):
        raise OSError(f"no entry for {given} (KEYID, SE/CRET, SE%2FCRET)")

    with monkeypatch.context() as patch, remote.mirrored(here):
        patch.setattr(StoreMirror, "push", fails)
    with pytest.raises(InputError) as caught, monkeypatch.context() as patch:
        patch.setattr(StoreMirror, "push", fails)
        remote.sync(here)
    remote.sync(here)
    assert seen and set(seen) == {given}
    said = str(caught.value) + capsys.readouterr().err
    assert "no entry for s3://" in said
    done = cli("sync", "s", "--results", given)
    said += done.out + done.err
    written = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] + list((tmp_path / "bucket").rglob("*.json"))
    said += "".join(map(str, written)) + "".join(p.read_bytes().decode("latin-1") for p in written)
    for secret in ("KEYID", "CRET"):
        assert secret not in said
    assert remote.working_folder("s3://OTHER:OTHER@bucket/p") == results == remote.working_folder("s3://bucket/p")


def test_a_uri_that_pyarrow_refuses_is_told_without_its_key(cli, tmp_path, monkeypatch):
    """pyarrow's own words quote the URI; --debug's traceback too."""
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path))
    for given in ("nonsense://KEYID:SECRET@x/y", "s3://KEYID:SE/CRET@bucket/p", "s3://KEYID:SECRET@b/p?bad=1"):
        said = cli("best", "--results", given)
        assert said.status == 2 and said.err.count("\n") == 1
        debug = cli("--debug", "best", "--results", given)
        for text in (said.err, debug.err, debug.out):
            assert "KEYID" not in text and "CRET" not in text
    assert list(tmp_path.iterdir()) == []
