"""Kept samples are deleted, and nothing else."""

from __future__ import annotations

from pathlib import Path

from fixtures.commands import run


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache" / "samples").iterdir()}


def test_a_missing_folder_is_fine(counting, tmp_path, capfd) -> None:
    folder = tmp_path / "cache" / "samples"
    for words in ((), (counting,)):
        code, out, _ = run(capfd, "data", "clear", *words)
        assert code == 0 and out.startswith("nothing")
        assert str(folder) in out
    assert not folder.exists()


def test_all_kept_samples_go_and_other_files_stay(counting, tmp_path, capfd) -> None:
    run(capfd, "data", "prepare", counting, "--workers", 1)
    mine = tmp_path / "cache" / "samples" / "notes-train-today.txt"
    mine.write_text("mine")
    (mine.parent / "a-train-0123456789abcdef").mkdir()
    code, out, _ = run(capfd, "data", "clear")
    assert code == 0
    assert out.startswith("deleted 2 files, 0.1 MiB, in ")
    assert files(tmp_path) == {"notes-train-today.txt", "a-train-0123456789abcdef"}


def test_a_recipe_names_whose_samples_go(counting, tmp_path, capfd) -> None:
    other = ("--set", "data.seed=1")
    run(capfd, "data", "prepare", counting, "--workers", 1)
    before = files(tmp_path)
    run(capfd, "data", "prepare", counting, "--workers", 1, *other)
    assert len(files(tmp_path)) == 4
    code, out, _ = run(capfd, "data", "clear", counting, *other, "--set", "loader.cache=none")
    assert code == 0 and out.startswith("deleted 2 files")
    assert files(tmp_path) == before


def test_a_folder_that_may_not_be_changed_is_told(counting, tmp_path, capfd, monkeypatch) -> None:
    run(capfd, "data", "prepare", counting, "--workers", 1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)  # root may delete whatever the rights
    code, _, err = run(capfd, "data", "clear")
    assert code == 4 and "cannot be removed (Permission denied). Mend the rights" in err
