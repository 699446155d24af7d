import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ramengpt.inference.decoding import Decoder
from ramengpt.inference.weights import load_weights
from ramengpt.inference.weights_config import CONFIG_FILE, WEIGHTS_FILE, WeightsError
from tests.inference.tiny_weights import export_tiny, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def folder(tmp_path, model) -> Path:
    return export_tiny(tmp_path / "models", model)


def test_loaded_weights_give_the_same_logits_at_the_window_they_are_for(folder, model, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a CPU that computes in float32
    loaded = load_weights(folder, CPU)
    tokens_T = torch.randint(50257, (40,), dtype=torch.int32)
    positions_T = torch.arange(40, dtype=torch.int32)
    with model.temporary_window(256), torch.no_grad():
        expected = model.logits(tokens_T, positions_T)
    assert torch.equal(loaded.model.logits(tokens_T, positions_T), expected)
    assert loaded.model.rotary.windows["L"] == 256
    assert loaded.config.run == {"seed": 1}


def test_export_leaves_the_model_and_no_temporary_file(folder, model):
    assert model.rotary.windows["L"] == 128
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_float8_training_leaves_no_trace_in_the_weights(tmp_path):
    folder = export_tiny(tmp_path / "models", tiny_model(float8_mlp=True))
    assert not [name for name in load_file(folder / WEIGHTS_FILE) if "largest_h" in name]
    assert load_weights(folder, CPU).model.blocks[0].mlp.weight_in.isfinite().all()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere: no such folder; train first"):
        load_weights(tmp_path / "nowhere", CPU)


def test_a_folder_without_weights_is_named(tmp_path, folder):
    with pytest.raises(WeightsError, match=f"no {CONFIG_FILE} in it"):
        load_weights(tmp_path, CPU)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(WeightsError, match=f"{WEIGHTS_FILE}: missing"):
        load_weights(folder, CPU)


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, 100_000])
def test_a_cut_file_is_damaged(folder, kept_bytes):
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(WeightsError, match="damaged") as error:
        load_weights(folder, CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"smear": False}, {"activation": "gelu"}], ids=repr)
def test_weights_of_another_network_are_refused(folder, tmp_path, changes):
    other = export_tiny(tmp_path / "other", tiny_model(**changes))
    (folder / WEIGHTS_FILE).write_bytes((other / WEIGHTS_FILE).read_bytes())
    with pytest.raises(WeightsError, match="another network than that of the weights") as error:
        load_weights(folder, CPU)
    assert "\n" not in str(error.value)


def test_a_tensor_of_another_type_is_refused(folder):
    with safe_open(folder / WEIGHTS_FILE, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["head.weight"] = tensors["head.weight"].bfloat16()
    save_file(tensors, folder / WEIGHTS_FILE, metadata)
    with pytest.raises(WeightsError, match=r"damaged, its checksum is another; restore both"):
        load_weights(folder, CPU)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.999])
def test_a_flipped_bit_is_refused(folder, place):
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1 << 3
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged, its checksum is another; restore both"):
        load_weights(folder, CPU)


def test_what_the_reader_may_change_does_not_count(folder):
    config = json.loads((folder / CONFIG_FILE).read_text())
    config |= {"run": {"note": "mine"}, "micro_batch_tokens": 64}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    assert load_weights(folder, CPU).config.run == {"note": "mine"}


def test_values_that_are_not_finite_are_refused(tmp_path):
    model = tiny_model(vocabulary=128)
    with torch.no_grad():
        model.head.weight[3, :2] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(WeightsError, match=r"head\.weight: 2 values are not finite"):
        load_weights(export_tiny(tmp_path / "models", model), CPU)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(WeightsError, match=name):
            load_weights(folder, CPU)


@pytest.mark.gpu
def test_on_the_gpu_the_same_weights_predict_the_same(folder):
    prompt = torch.randint(50257, (40,)).tolist()
    on_cpu = Decoder(load_weights(folder, CPU).model).start(prompt).softmax(0)
    loaded = load_weights(folder, torch.device("cuda")).model
    assert all(parameter.is_cuda for parameter in loaded.parameters())
    on_gpu = Decoder(loaded).start(prompt).softmax(0).cpu()
    assert float((on_gpu - on_cpu).abs().sum()) < 0.2
