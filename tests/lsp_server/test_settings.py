"""Settings: which values are taken, from whom, and what is said about the others."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lsp_server.settings import Settings, SettingsError, apply, read_file


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"deadline_ms": 5}, "deadline_ms: must be from 20 to 60000 ms, got 5; keeping 1000"),
        ({"deadline_ms": "500"}, "deadline_ms: must be int, got str '500'; keeping 1000"),
        ({"deadline_ms": True}, "deadline_ms: must be int, got bool True; keeping 1000"),
        ({"deadline_ms": None}, "deadline_ms: must be int, got null; keeping 1000"),
        ({"enabled": 1}, "enabled: must be bool, got int 1; keeping True"),
        ({"dead_line": 1}, "dead_line: unknown"),
        ([1], "settings must be a table of names and values, got list [1]"),
        ("x", "settings must be a table of names and values, got str 'x'"),
    ],
)
def test_a_bad_value_is_named_and_the_one_before_kept(values, message) -> None:
    checked = apply(Settings(), values, by_user=False)
    assert checked.settings == Settings()
    assert checked.problems == (message,)


def test_good_values_beside_bad_ones_are_taken() -> None:
    checked = apply(Settings(), {"max_tokens": 0, "deadline_ms": 300, "enabled": False}, by_user=False)
    assert checked.settings == Settings(deadline_ms=300, enabled=False)
    assert len(checked.problems) == 1


@pytest.mark.parametrize("name", [each.name for each in fields(Settings) if each.metadata.get("user_only")])
def test_what_chooses_the_engine_is_never_taken_from_a_workspace(name) -> None:
    checked = apply(Settings(), {name: "/tmp/evil"}, by_user=False)
    assert checked.settings == Settings()
    assert "can't be set from a workspace" in checked.problems[0]


def test_the_user_may_choose_the_engine() -> None:
    checked = apply(Settings(), {"engine": "scripted", "n_threads": 2, "budget_mb": None, "idle_exit_s": 60}, by_user=True)
    assert (checked.settings.engine, checked.settings.n_threads, checked.settings.idle_exit_s) == ("scripted", 2, 60.0)
    assert apply(Settings(), {"engine": "remote"}, by_user=True).problems == (
        "engine: must be one of resident, child, in-process, scripted, got 'remote'; keeping 'resident'",
    )


def test_every_setting_says_what_it_is_and_its_default_is_allowed() -> None:
    defaults = {each.name: each.default for each in fields(Settings)}
    assert apply(Settings(), defaults, by_user=True).problems == ()
    assert all(each.metadata["about"] for each in fields(Settings))


def test_the_user_s_file_is_read_and_a_missing_one_is_no_settings(tmp_path) -> None:
    path = tmp_path / "midfill.toml"
    assert read_file(path).settings == Settings()
    path.write_text('model = "/models/santacoder"\nmax_tokens = 9999\n')
    checked = read_file(path)
    assert checked.settings.model == "/models/santacoder"
    assert len(checked.problems) == 1


@pytest.mark.parametrize("content", [b"= 3", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_an_error_that_names_it(tmp_path, content) -> None:
    path = tmp_path / "midfill.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"midfill\.toml can't be read, defaults are used"):
        read_file(path)
