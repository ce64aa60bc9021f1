from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.actors import Batcher
from pipeline.engine.needs import Needs, Pool, options, slots

amounts = st.integers(0, 16).map(float)
NEEDS = st.builds(
    Needs,
    cpus=amounts,
    gpus=amounts,
    memory=st.integers(0, 1 << 40),
    custom=st.dictionaries(st.sampled_from("abc"), amounts).map(lambda d: tuple(sorted(d.items()))),
    part=st.integers(0, 1 << 36),
    pool=st.none() | st.just(Pool()),
)


@settings(deadline=None, max_examples=50)
@given(NEEDS, NEEDS, NEEDS)
def test_joined_needs_do_not_depend_on_the_order_and_ask_for_no_less(a, b, c):
    assert a.join(b, c) == a.join(b.join(c)) == c.join(b, a)
    assert a.join(a) == a
    both = a.join(b).request()
    least = [(name, amount) for one in (a, b) for name, amount in one.request().items() if name != "memory"]
    assert all(both[name] >= amount for name, amount in least)
    assert both["memory"] >= max(a.memory, b.memory)  # of what nobody said, the user's word is enough


@settings(deadline=None, max_examples=50)
@given(NEEDS, st.integers(0, 1 << 45))
def test_an_expectation_never_asks_for_more_than_a_node_has_and_a_word_of_the_user_does(needs, most):
    memory = needs.request(most).get("memory", 0)
    assert memory == needs.memory if needs.memory else memory <= most


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 32))
def test_the_expected_memory_grows_with_the_part_and_is_a_power_of_two(size):
    expected = Needs().holding(size).expected
    assert expected.bit_count() == 1
    assert Needs().holding(size + 1).expected >= expected >= size


@settings(deadline=None, max_examples=50)
@given(
    NEEDS, st.lists(st.fixed_dictionaries({"CPU": amounts, "GPU": amounts, "memory": amounts, "a": amounts}))
)
def test_slots_are_what_a_scheduler_can_place(needs, nodes):
    request = needs.request()
    if not request:
        return
    placed = 0
    for node in nodes:
        left = dict(node)
        while all(left.get(name, 0) >= amount for name, amount in request.items()):
            for name, amount in request.items():
                left[name] -= amount
            placed += 1
    assert slots(request, nodes) == placed
    assert slots(request, [*nodes, *nodes]) == 2 * placed


def test_a_request_in_the_names_of_rays_options():
    needs = Needs(cpus=2, gpus=0.5, memory=10, custom=(("tpu", 1.0),))
    wanted = {"num_cpus": 2, "num_gpus": 0.5, "memory": 10, "resources": {"tpu": 1.0}}
    assert options(needs.request()) == wanted


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 1000), min_size=1), st.floats(0.01, 100), st.integers(1, 5000))
def test_a_call_stays_in_its_budget_of_time_and_bytes_but_for_a_single_item(sizes, seconds, most):
    batcher = Batcher(seconds=1.0, most=most)
    assert batcher.cut(sizes) == 1
    batcher.learn(100, seconds)
    taken = batcher.cut(sizes)
    budget = min(most, 100 / seconds)
    assert taken == 1 or sum(sizes[:taken]) <= budget
    assert taken == len(sizes) or sum(sizes[: taken + 1]) > budget or taken >= 1


def test_the_throughput_follows_what_is_measured():
    batcher = Batcher(seconds=1.0, most=1 << 40)
    for _ in range(50):
        batcher.learn(1000, 1.0)
    assert batcher.cut([100] * 50) == 10
    for _ in range(50):
        batcher.learn(1000, 0.5)
    assert batcher.cut([100] * 50) in {19, 20}
