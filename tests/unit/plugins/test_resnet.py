from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18
from torchvision.models._api import WeightsEnum

from mtlkit.errors import CheckpointError, MissingError
from mtlkit_plugins.encoders.resnet import ResNetEncoder


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return resnet18(weights=None).state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of torchvision's weights that is empty, on a machine without network."""

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", no_network)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("depth", [18, 50])
def test_maps_have_the_channels_and_strides_of_the_spec(depth):
    encoder, spec = ResNetEncoder(depth=depth).build_encoder()
    with torch.no_grad():
        maps = encoder.eval()(torch.rand(1, 3, 64, 32))
    assert [x.shape[1] for x in maps] == list(spec.channels)
    assert [(64 // x.shape[2], 32 // x.shape[3]) for x in maps] == [(s, s) for s in spec.strides]
    assert spec.divisor == 32


def test_maps_are_those_of_torchvision(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    encoder, _ = ResNetEncoder(depth=18, weights=str(tmp_path / "weights.pth")).build_encoder()
    whole = resnet18(weights=None)
    whole.load_state_dict(state)
    seen = []
    whole.relu.register_forward_hook(lambda module, inputs, out: seen.append(out.clone()))
    for layer in (whole.layer1, whole.layer2, whole.layer3, whole.layer4):
        layer.register_forward_hook(lambda module, inputs, out: seen.append(out))
    image = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    with torch.no_grad():
        whole.eval()((image - mean) / std)
        maps = encoder.eval()(image)
    assert len(seen) == 5
    for ours, theirs in zip(maps, seen, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_normalisation_can_be_left_out_and_is_in_no_checkpoint():
    encoder, _ = ResNetEncoder(depth=18, normalize="none").build_encoder()
    assert encoder.mean.count_nonzero() == 0
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"stages"}


def test_stages_are_a_chain_of_sequentials():
    encoder, _ = ResNetEncoder(depth=18).build_encoder()
    assert all(isinstance(stage, nn.Sequential) for stage in encoder.stages)
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_are_read_from_a_file_without_the_classifier(state, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    encoder, _ = ResNetEncoder(depth=18, weights=str(path)).build_encoder()
    assert torch.equal(encoder.stages[0][0].weight, state["conv1.weight"])
    assert torch.equal(encoder.stages[4][1].conv2.weight, state["layer4.1.conv2.weight"])


def test_imagenet_weights_come_from_the_cache(state, hub):
    torch.save(state, hub / "resnet18-f37072fd.pth")
    encoder, _ = ResNetEncoder(depth=18, weights="imagenet").build_encoder()
    assert torch.equal(encoder.stages[0][0].weight, state["conv1.weight"])


@pytest.mark.parametrize(
    ("depth", "file"), [(34, "resnet34-b627a593.pth"), (50, "resnet50-0676ba61.pth")]
)
def test_missing_imagenet_weights_are_told_in_one_line(hub, depth, file):
    with pytest.raises(MissingError) as caught:
        ResNetEncoder(depth=depth, weights="imagenet").build_encoder()
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (file, str(hub), "`weights: null`"))


def test_nothing_is_read_on_the_meta_device(hub):
    with torch.device("meta"):
        encoder, _ = ResNetEncoder(depth=18, weights="imagenet").build_encoder()
    assert all(p.is_meta for p in encoder.parameters())


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(MissingError, match=re.escape("no file 'nowhere.pth'")):
        ResNetEncoder(depth=18, weights="nowhere.pth").build_encoder()


def test_weights_of_another_depth_are_refused(state, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(
        CheckpointError, match=r"is no resnet34 \('layer1.2.conv1.weight' is missing"
    ):
        ResNetEncoder(depth=34, weights=str(path)).build_encoder()


class Code:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["code", "noise", "nested"])
def test_what_is_no_state_dict_is_refused_and_never_run(tmp_path, capsys, content, suffix):
    path = tmp_path / f"weights{suffix}"
    if content == "noise":
        path.write_bytes(b"\x00\x01noise" * 9)
    else:
        torch.save(Code() if content == "code" else {"model": {}}, path)
    with pytest.raises(CheckpointError, match="Save the weights alone") as caught:
        ResNetEncoder(depth=18, weights=str(path)).build_encoder()
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().out
