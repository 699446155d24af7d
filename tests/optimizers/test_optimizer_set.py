"""All groups together: the tied embedding, freezing, clipping, state."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.optimizers.models import (
    ALL_HOOKS,
    OPTIMIZERS,
    SPLIT,
    TIED,
    Settings,
    assert_same,
    hooks_config,
    optimizers_of,
    set_gradients,
    small_model,
    train,
    values,
)


def every_transition() -> list[Settings]:
    """Ten steps: warm-up, a freeze, the split, another freeze, cooldown."""
    plans = [
        Settings(step=step, learning_rate_multiplier=0.2 + 0.08 * step, momentum=0.85 + 0.01 * step)
        for step in range(10)
    ]
    plans = [replace(plan, embedding_tied=step < 5) for step, plan in enumerate(plans)]
    return [replace(plan, scalars_frozen=step in (2, 3, 5, 6)) for step, plan in enumerate(plans)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hooks", [{}, ALL_HOOKS], ids=["no hooks", "all hooks"])
def test_resuming_after_any_step_gives_the_same_bits(optimizer: str, hooks: dict) -> None:
    plans = every_transition()
    settings = {"embedding_tied": True, "clipping": (1, 1, 1), "hooks": hooks_config(**hooks)}
    parameters = small_model()
    optimizers = optimizers_of(parameters, optimizer, **settings)
    saved = []
    for step, plan in enumerate(plans):
        saved.append((values(parameters), copy.deepcopy(optimizers.state_dict())))
        train(parameters, optimizers, [plan], first=step)
    with optimizers.evaluation_weights():
        evaluated = values(parameters)
    for step, (weights, state) in enumerate(saved):
        resumed = small_model(seed=1)
        resumed_optimizers = optimizers_of(resumed, optimizer, **settings)
        for name, parameter in resumed.items():
            parameter.detach().copy_(weights[name])
        resumed_optimizers.load_state_dict(state)
        train(resumed, resumed_optimizers, plans[step:], first=step)
        assert_same(values(resumed), values(parameters))
        with resumed_optimizers.evaluation_weights():
            assert_same(values(resumed), evaluated)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_parameter_moves_and_stays_finite(optimizer: str) -> None:
    parameters = small_model()
    before = values(parameters)
    train(parameters, optimizers_of(parameters, optimizer), [SPLIT] * 3)
    for name, parameter in parameters.items():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter.detach(), before[name]), name


def test_parameters_keep_their_storage() -> None:
    parameters = small_model()
    places = {name: parameter.data_ptr() for name, parameter in parameters.items()}
    train(parameters, optimizers_of(parameters, embedding_tied=True), every_transition())
    assert places == {name: parameter.data_ptr() for name, parameter in parameters.items()}


def test_tied_embedding_and_head_are_one_matrix_with_the_sum_of_gradients() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters, embedding_tied=True)
    embedding, head = parameters["embedding.weight"], parameters["head.weight"]
    assert torch.equal(embedding, head)

    alone = small_model()
    alone_optimizers = optimizers_of(alone)
    for step in range(3):
        set_gradients(parameters, step)
        set_gradients(alone, step)
        alone["head.weight"].grad += parameters["embedding.weight"].grad
        optimizers.clip_gradients(TIED)
        optimizers.step(TIED)
        alone_optimizers.step(SPLIT)
        assert torch.equal(embedding, head)
        assert torch.equal(head, alone["head.weight"])


def test_after_the_split_the_learning_rate_is_scheduled_once() -> None:
    """The original multiplied the embedding's by the schedule twice."""
    parameters = small_model()
    for name in ("embedding.weight", "head.weight"):
        parameters[name].wd_mul = 0.0
    optimizers = optimizers_of(parameters, embedding_tied=True, head_learning_rate=None)
    train(parameters, optimizers, [TIED] * 2)
    before = values(parameters)
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(replace(SPLIT, learning_rate_multiplier=0.25))
    moved = {name: parameters[name].detach() - before[name] for name in before}
    assert moved["head.weight"].abs().max() > 0
    assert torch.equal(moved["embedding.weight"], moved["head.weight"])


def test_a_split_embedding_cannot_be_tied_again() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters)
    set_gradients(parameters, 0)
    with pytest.raises(ValueError, match="cannot be tied again"):
        optimizers.step(TIED)


def test_frozen_scalars_stay_bit_identical_and_keep_their_moments() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters)
    train(parameters, optimizers, [SPLIT] * 2)
    before = values(parameters)
    scalar = next(
        param_group for param_group in optimizers.param_groups if param_group.name == "scalar"
    )
    moments = copy.deepcopy(scalar.state)
    train(parameters, optimizers, [replace(SPLIT, scalars_frozen=True)] * 3)
    for name, parameter in parameters.items():
        assert torch.equal(parameter, before[name]) == (parameter.group == "scalar"), name
    assert_same(scalar.state, moments)
    assert scalar.updates == 2


def test_clipping_states_norms_and_limits_each_group_alone() -> None:
    parameters = small_model()
    set_gradients(parameters, 0)
    gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    expected = {
        group: torch.cat(
            [gradients[n].flatten() for n, p in parameters.items() if p.group == group]
        )
        for group in ("embedding", "hidden", "scalar")
    }
    optimizers = optimizers_of(parameters, clipping=(0.0, 0.5, 1000.0))
    norms = optimizers.clip_gradients(SPLIT)
    assert norms.keys() == expected.keys()
    for group, norm in norms.items():
        assert norm.dtype == torch.float32
        torch.testing.assert_close(norm, expected[group].norm())
    for name, parameter in parameters.items():
        if parameter.group == "hidden":
            scaled = gradients[name] * (0.5 / norms["hidden"])
            torch.testing.assert_close(parameter.grad, scaled)
        else:
            assert torch.equal(parameter.grad, gradients[name])


def test_norm_of_a_tied_embedding_is_that_of_the_summed_gradient() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters, embedding_tied=True)
    set_gradients(parameters, 0)
    total = parameters["embedding.weight"].grad + parameters["head.weight"].grad
    torch.testing.assert_close(optimizers.clip_gradients(TIED)["embedding"], total.norm())


def test_zero_grad_keeps_the_tensors() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters)
    set_gradients(parameters, 0)
    places = [parameter.grad.data_ptr() for parameter in parameters.values()]
    optimizers.zero_grad()
    assert places == [parameter.grad.data_ptr() for parameter in parameters.values()]
    assert all(parameter.grad.abs().max() == 0 for parameter in parameters.values())


def test_state_of_another_model_or_rule_is_refused_before_anything_changes() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters, "normuon")
    train(parameters, optimizers, [SPLIT])
    before = copy.deepcopy(optimizers.state_dict())

    with pytest.raises(ValueError, match="hidden/16x16 does not fit"):
        optimizers.load_state_dict(optimizers_of(small_model(), "adam").state_dict())
    other = small_model()
    del other["1.lambda"]
    with pytest.raises(ValueError, match="scalar holds other parameters"):
        optimizers.load_state_dict(optimizers_of(other).state_dict())
    smaller = {name: p for name, p in small_model().items() if "mlp" not in name}
    with pytest.raises(ValueError, match="lacks hidden/48x16"):
        optimizers.load_state_dict(optimizers_of(smaller).state_dict())
    with pytest.raises(ValueError, match="unknown parts: hidden/48x16"):
        optimizers_of(smaller).load_state_dict(optimizers.state_dict())
    after = optimizers.state_dict()
    for name, param_group in before["param_groups"].items():
        assert_same(param_group["state"], after["param_groups"][name]["state"])
        assert param_group["updates"] == after["param_groups"][name]["updates"]


def test_aro_reports_rotations_that_it_kept() -> None:
    parameters = small_model()
    optimizers = optimizers_of(parameters, "aro")
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(SPLIT)
    counters = optimizers.counters()
    assert counters["hidden/16x16/kept_rotations"] == 8
    assert optimizers_of(small_model(), "muon").counters() == {}


def on_gpu(parameters) -> dict[str, torch.nn.Parameter]:
    moved = {}
    for name, parameter in parameters.items():
        moved[name] = torch.nn.Parameter(parameter.detach().cuda())
        moved[name].__dict__.update(parameter.__dict__)
    return moved


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compiled_steps_agree_never_wait_and_compile_once(optimizer: str) -> None:
    plans = every_transition()
    results = []
    for compile in (False, True):
        parameters = on_gpu(small_model())
        optimizers = optimizers_of(
            parameters, optimizer, embedding_tied=True, clipping=(1, 1, 1), compile=compile
        )
        train(parameters, optimizers, plans[:1])
        torch.cuda.synchronize()
        for step, plan in enumerate(plans[1:], start=1):
            set_gradients(parameters, step)
            # The compiler itself may wait; all is compiled after the fifth step.
            torch.cuda.set_sync_debug_mode("error" if step > 5 or not compile else "default")
            try:
                with torch.compiler.set_stance("fail_on_recompile" if step > 5 else "default"):
                    optimizers.clip_gradients(plan)
                    optimizers.step(plan)
                    optimizers.zero_grad()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        results.append(values(parameters))
    for name, start in small_model().items():
        moved = results[0][name].cpu() - start.detach()
        error = (results[1][name] - results[0][name]).norm() / moved.norm()
        assert error < 0.05, name
