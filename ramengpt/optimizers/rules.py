"""The table of update rules: what the `rule` of an entry of params.yaml names."""

from collections.abc import Callable, Mapping
from typing import Any

from ramengpt.config.optimizer import OptimizerConfig
from ramengpt.optimizers.adam import Adam
from ramengpt.optimizers.adamw import AdamW
from ramengpt.optimizers.ademamix import AdEMAMix
from ramengpt.optimizers.aro import Aro
from ramengpt.optimizers.bam import Bam
from ramengpt.optimizers.hyperball import AdamHyperball, MuonHyperball
from ramengpt.optimizers.lite import Lite
from ramengpt.optimizers.muon import Muon
from ramengpt.optimizers.muon_eq_r import MuonEqR
from ramengpt.optimizers.normuon import NorMuon
from ramengpt.optimizers.rule import UpdateRule
from ramengpt.optimizers.soap import Soap
from ramengpt.optimizers.soap_muon import SoapMuon

RULES: Mapping[str, Callable[..., UpdateRule[Any]]] = {
    "normuon": NorMuon,
    "muon": Muon,
    "bam": Bam,
    "aro": Aro,
    "adam": Adam,
    "adamw": AdamW,
    "muon_eq_r": MuonEqR,
    "ademamix": AdEMAMix,
    "soap": Soap,
    "soap_muon": SoapMuon,
    "muon_hyperball": MuonHyperball,
    "adam_hyperball": AdamHyperball,
    "lite": Lite,
}


def make_rule(optimizer: OptimizerConfig, *, compile: bool) -> UpdateRule[Any]:
    """The rule of the hidden matrices."""
    return RULES[optimizer.rule](optimizer, compile=compile)
