"""What SECURITY.md promises about recipes and plugin files."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtlkit
from mtlkit.errors import RecipeError

MARKER = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def stranger(tiny: Path) -> Path:
    """A recipe that names a plugin file, which leaves a mark when it is run."""
    (tiny.parent / "stranger.py").write_text(
        f"{MARKER}import mtlkit\n\n\n@mtlkit.hookimpl\ndef mtlkit_run_start(run):\n    pass\n",
        encoding="utf-8",
    )
    return naming("stranger.py", tiny)


def naming(file: str, recipe: Path) -> Path:
    """Name one more plugin file in a recipe."""
    text = recipe.read_text().replace("plugins: [", f"plugins: [{file}, ")
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_a_plugin_file_that_the_recipe_names_is_run(stranger: Path) -> None:
    mtlkit.load_recipe(stranger)
    assert (stranger.parent / "ran").exists()


def test_a_plugin_file_that_is_left_out_is_not_run(stranger: Path) -> None:
    mtlkit.load_recipe(stranger, blocked=["stranger"])
    assert not (stranger.parent / "ran").exists()


def test_a_plugin_file_outside_the_recipes_folder_is_refused(tiny: Path) -> None:
    with pytest.raises(RecipeError, match=r"'\.\./other\.py' lies outside"):
        mtlkit.load_recipe(naming("../other.py", tiny))


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
@pytest.mark.parametrize("form", ["[{}]", "{{args: [{}]}}", "{}"])
def test_a_tag_of_yaml_runs_nothing(tag: str, form: str, tiny: Path) -> None:
    mark = tiny.parent / "made"
    text = tiny.read_text().replace("seed: 3", f"seed: {tag} {form.format(mark)}")
    tiny.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="seed"):
        mtlkit.load_recipe(tiny)
    assert not mark.exists()
