from __future__ import annotations

import functools
import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from augment import Learned, Policy, presets
from augment.policy import Choice
from augment.search import Evidence
from augment.search.learned import SKETCH, STATE
from lake.images import encode

SMALL = Policy(
    name="small",
    subpolicies=[
        [Choice(op="Identity")],
        [Choice(op="Invert")],
        [Choice(op="Sharpness", magnitude=(0, 1))],
        [Choice(op="Brightness", magnitude=(0, 1)), Choice(op="Invert", probability=0.5)],
    ],
)
STEP = Learned(base=SMALL, folds=2, levels=2, min_per_class=4, seed=3)


@functools.cache
def rows(n: int = 40) -> pa.Table:
    """The class is the shade."""
    rng = np.random.default_rng(0)
    table = []
    for i in range(n):
        label = ("dark", "light")[i % 2]
        pixels = rng.integers(40, 60, (10, 10, 1), np.uint8) + np.uint8(120 * (i % 2))
        table.append({"_id": rng.bytes(16).hex(), "image": encode(pixels), "label": label})
    return pa.Table.from_pylist(table)


def found(step: Learned, table: pa.Table) -> Evidence:
    return Learned.evidence(step.resolve([step.sketch(table)]))


def test_a_harmful_op_goes_and_a_harmless_one_stays() -> None:
    evidence = found(STEP, rows())
    assert evidence.learned
    assert evidence.rows == 40
    assert evidence.classes == ("dark", "light")
    by_op = {op.op: op for op in evidence.ops}
    assert set(by_op) == {"Invert", "Sharpness", "Brightness"}
    assert not by_op["Invert"].kept
    assert by_op["Sharpness"].ceiling == 1.0
    policy = Policy.model_validate(evidence.policy)
    assert "Invert" not in policy.ops
    assert {"Identity", "Sharpness"} <= set(policy.ops)
    assert policy.name == "small, learned"


def test_state_is_one_row_and_bind_carries_it_out() -> None:
    state = STEP.resolve([STEP.sketch(rows())])
    assert state.schema == STATE
    assert state.num_rows == 1
    bound = Learned(base=SMALL, copies=3, seed=11).bind(state)
    assert bound.augments
    assert (bound.copies, bound.seed, bound.policy) == (
        3,
        11,
        Policy.model_validate_json(state["policy"][0].as_py()),
    )
    made = bound(rows())
    assert made.num_rows == 4 * 40


@given(st.permutations(range(40)), st.lists(st.integers(0, 40), max_size=4), st.sampled_from([20, 33, 4000]))
@settings(max_examples=6, deadline=None)
def test_neither_order_nor_cutting_matters(order: list[int], cuts: list[int], most: int) -> None:
    step = STEP.model_copy(update={"max_rows": most})
    whole = step.resolve([step.sketch(rows())])
    shuffled = rows().take(order)
    edges = [0, *sorted(cuts), 40]
    parts = [step.sketch(shuffled.slice(a, b - a)) for a, b in itertools.pairwise(edges)]
    assert all(part.schema == SKETCH and part.num_rows <= most for part in parts)
    assert step.resolve(parts).equals(whole)
    assert step.resolve(parts[::-1]).equals(whole)
    assert Learned.evidence(whole).rows == min(most, 40)


def test_the_smallest_ids_are_taken_once_each() -> None:
    doubled = pa.concat_tables([rows(), rows()])
    step = STEP.model_copy(update={"max_rows": 20})
    assert step.sketch(doubled).column("_id").to_pylist() == sorted(rows().column("_id").to_pylist())[:20]
    assert step.resolve([step.sketch(rows()), step.sketch(rows())]).equals(step.resolve([step.sketch(rows())]))


def test_of_two_labels_for_one_id_the_smaller_counts_wherever_it_stands() -> None:
    other = rows().set_column(2, "label", pa.array(["a"] * 40))
    step = STEP.model_copy(update={"min_per_class": 4})
    both = [step.sketch(rows()), step.sketch(other)]
    assert step.resolve(both).equals(step.resolve([step.sketch(pa.concat_tables([rows(), other]))]))


def test_an_unreadable_image_is_passed_over() -> None:
    bad = pa.table(
        {
            "_id": ["0" * 32, "1" * 32],
            "image": [b"nothing", rows()["image"][0].as_py()[:40]],
            "label": ["dark"] * 2,
        }
    )
    assert STEP.sketch(bad).num_rows == 0
    state = STEP.resolve([STEP.sketch(pa.concat_tables([bad, rows()]))])
    assert state.equals(STEP.resolve([STEP.sketch(rows())]))


def test_rows_without_label_or_image_say_nothing() -> None:
    bare = pa.table(
        {
            "_id": ["0" * 32, "1" * 32],
            "image": pa.array([rows()["image"][0].as_py(), None]),
            "label": [None, "dark"],
        }
    )
    assert STEP.sketch(bare).num_rows == 0
    assert STEP.sketch(bare.select(["_id", "image"])).num_rows == 0
    assert STEP.sketch(bare.select(["_id", "label"])).num_rows == 0
    assert STEP.sketch(rows().slice(0, 0)).schema == SKETCH


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (rows().slice(0, 0), "0 of 0 classes"),
        (rows().set_column(2, "label", pa.array(["one"] * 40)), "1 of 1 classes"),
        (rows().slice(0, 6), "0 of 2 classes"),
        (rows().set_column(2, "label", pa.array([str(i) for i in range(40)])), "0 of 40 classes"),
        (rows().set_column(1, "image", pa.array([rows()["image"][0].as_py()] * 40)), "guessing 0.500"),
    ],
    ids=["nothing", "one class", "too few", "all different", "equal images"],
)
def test_where_nothing_can_be_learned_the_base_stays_and_the_evidence_says_why(
    table: pa.Table, why: str
) -> None:
    state = STEP.resolve([STEP.sketch(table)])
    evidence = Learned.evidence(state)
    assert not evidence.learned
    assert why in evidence.why
    assert evidence.ops == ()
    assert Policy.model_validate_json(state["policy"][0].as_py()) == SMALL
    assert STEP.bind(state).policy == SMALL


def test_no_sketch_at_all() -> None:
    assert not Learned.evidence(STEP.resolve([])).learned


def test_a_class_too_small_is_left_out_and_named() -> None:
    labels = ["rare" if i < 3 else label for i, label in enumerate(rows()["label"].to_pylist())]
    evidence = found(STEP, rows().set_column(2, "label", pa.array(labels)))
    assert evidence.left_out == ("rare",)
    assert evidence.rows == 37
    assert evidence.learned


def test_large_and_deep_images_are_reduced_and_judged() -> None:
    rng = np.random.default_rng(1)
    table = []
    for i in range(24):
        shape = ((90, 60, 3), (40, 40, 1))[i % 3 == 0]
        # 12 bits stored from the middle of 16 upwards, as signed scans come.
        pixels = (rng.integers(0, 900, shape) + 32768 + 3000 * (i % 2)).astype(np.uint16)
        table.append({"_id": rng.bytes(16).hex(), "image": encode(pixels), "label": str(i % 2)})
    step = STEP.model_copy(update={"resolution": 16})
    sketch = step.sketch(pa.Table.from_pylist(table))
    assert sorted(set(map(tuple, sketch["shape"].to_pylist()))) == [(16, 11, 3, 16), (16, 16, 1, 16)]
    evidence = Learned.evidence(step.resolve([sketch]))
    assert evidence.clean_accuracy == 1.0
    assert evidence.learned


def test_the_evidence_is_repeatable_and_depends_on_the_seed_only_where_it_may() -> None:
    first, second = (STEP.resolve([STEP.sketch(rows())]) for _ in range(2))
    assert first.equals(second)
    assert "seconds" not in first["evidence"][0].as_py()


def test_the_value_goes_to_json_and_back() -> None:
    for step in (Learned(), STEP, Learned(base="randaugment", tolerance=0.02)):
        assert Learned.model_validate_json(step.model_dump_json()) == step
    assert Learned(base=presets.trivial_augment_wide()).base_policy == Learned().base_policy


@pytest.mark.parametrize(
    "fields",
    [
        {"base": "trivial_augment_wid"},
        {"base": {"subpolicies": []}},
        {"copies": 0},
        {"folds": 1},
        {"folds": 6},
        {"levels": 0},
        {"tolerance": -0.1},
        {"tolerance": float("nan")},
        {"max_rows": 1},
        {"resolution": 4},
        {"min_per_class": 1},
        {"seed": -1},
        {"trials": 3},
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Learned(**fields)


def test_importing_the_step_loads_nothing_heavy() -> None:
    heavy = ("numba", "deltalake", "ray", "scipy")
    code = f"import sys, augment.search.learned; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
