"""A prepared dataset with other items: what is left is what was there, and it is whole."""

from pathlib import Path

import numpy as np
import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.data.changed import CHANGED_FILES, write_catalog, write_without
from llmrec.data.prepared import FOLDS, Prepared
from llmrec.errors import DataError
from llmrec.versions import link_tree


def by_name(prepared: Prepared) -> dict[str, list[tuple[str, int | None, int]]]:
    """Events of each user as (item id, time, fold)."""
    folds = prepared.folds("leave-last-out")
    histories = prepared.histories
    return {
        user: [
            (prepared.catalog[event.item].id, event.time, int(folds[histories.offsets[position] + number]))
            for number, event in enumerate(history)
        ]
        for position, (user, history) in enumerate(histories)
    }


def test_items_left_out_take_their_events_and_no_others(slice_of_sample: Prepared, tmp_path: Path):
    left_out = np.zeros(len(slice_of_sample.catalog), dtype=bool)
    left_out[::7] = True
    write_without(slice_of_sample, left_out, tmp_path)
    found = Prepared(tmp_path)
    gone = {item.id for item, out in zip(slice_of_sample.catalog.items, left_out, strict=True) if out}
    assert found.catalog.items == tuple(i for i in slice_of_sample.catalog.items if i.id not in gone)
    expected = {
        user: left
        for user, events in by_name(slice_of_sample).items()
        if (left := [event for event in events if event[0] not in gone])
    }
    assert by_name(found) == expected and len(found.histories) < len(slice_of_sample.histories) + 1
    assert found.manifest["counts"]["items"] == len(found.catalog)
    assert found.manifest["counts"]["events"] == len(found.histories.items)
    assert f"| items | {len(found.catalog)} (" in (tmp_path / "card.md").read_text()
    for user, known in enumerate(found.histories.users):
        was = slice_of_sample.histories.index(known)
        assert found.attributes(user) == slice_of_sample.attributes(was)
    assert {FOLDS[fold] for events in expected.values() for *_, fold in events} == set(FOLDS)


def test_something_must_be_left(slice_of_sample: Prepared, tmp_path: Path):
    with pytest.raises(DataError, match="nothing would be left"):
        write_without(slice_of_sample, np.ones(len(slice_of_sample.catalog), dtype=bool), tmp_path)


def test_more_items_change_no_index(slice_of_sample: Prepared, tmp_path: Path):
    old = slice_of_sample.catalog
    link_tree(slice_of_sample.directory, tmp_path, CHANGED_FILES)
    bigger = Catalog([*old.items, Item("new", "New", retired=True)], old.currency)
    write_catalog(slice_of_sample, bigger, tmp_path)
    found = Prepared(tmp_path)
    assert found.catalog.items == bigger.items and by_name(found) == by_name(slice_of_sample)
    assert found.manifest["counts"]["items_retired"] == 1
    with pytest.raises(ValueError, match="must keep the index"):
        write_catalog(slice_of_sample, Catalog(old.items[1:]), tmp_path)
