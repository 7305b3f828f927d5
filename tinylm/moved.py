"""Old names and where they are now: whoever uses one gets an error that says so."""

import sys
from typing import Any

from tinylm.engine.numpy_names import FUNCTIONS


def _renamed(old: str, new: str, names: str) -> dict[str, str]:
    """Returns the old and the new path of each name; `a=b` is called b now."""
    pairs = (name.partition("=") for name in names.split())
    return {f"{old}{before}": f"{new}{after or before}" for before, _, after in pairs}


MOVED = {
    "tinylm.autograd": "tinylm.engine.autograd and tinylm.engine.grad; grad is also tinylm.grad",
    "tinylm.backend": "tinylm.engine.arrays, array_functions, devices and ids; array_module is also tinylm.array_module",
    "tinylm.checkpoint": "tinylm.recompute",
    "tinylm.formats": "tinylm.pretrained, and formats.files is tinylm.files.json_files",
    "tinylm.models.pretrained": "tinylm.pretrained.model_loading",
    "tinylm.models.stored_weights": "tinylm.pretrained.weight_loading",
    "tinylm.ops.probabilities": "tinylm.ops.softmax and tinylm.ops.losses",
    "tinylm.rotary_angles": "tinylm.ops.rotary_angles",
    "tinylm.train.config": "tinylm.train.tasks.language_model_config",
    "tinylm.train.counting": "tinylm.train.tasks.language_modeling",
    "tinylm.train.gradient_norms": "tinylm.train.metrics",
    "tinylm.train.preparation": "tinylm.train.tasks.language_modeling",
    "tinylm.train.progress": "tinylm.train.state and tinylm.train.records",
    "tinylm.train.runs": "tinylm.train.tasks.loading and fine_tuning; load_run is also tinylm.train.load_run",
    "tinylm.verify.graphs": "tinylm.engine.autograd (nodes)",
    "tinylm.whole_files": "tinylm.files.atomic",
    **_renamed("tinylm.", "tinylm.engine.", "checkpointing=recompute dispatch=op kernel_registry=kernels random_streams=random_keys"),
    **_renamed("tinylm.", "tinylm.engine.", "anomalies cuda_probe profiler tensor"),
    **_renamed("tinylm.models.", "tinylm.pretrained.", "gguf_models hugging_face"),
    **_renamed("tinylm.nn.", "tinylm.nn.", "attentions=attention low_rank=lora positions=positional_encoding recurrents=recurrent"),
    **_renamed("tinylm.nn.", "tinylm.nn.", "dropout_layer=layers embeddings=layers linear_layers=layers norms=layers"),
    **_renamed("tinylm.nn.", "tinylm.nn.", "transformers=transformer"),
    **_renamed("tinylm.nn.", "tinylm.", "checks"),
    **_renamed("tinylm.ops.", "tinylm.ops.", "lookups=indexing normalizations=normalization positions=rotary products=linear"),
    **_renamed("tinylm.ops.", "tinylm.ops.", "projections=joint_linear randomness=dropout recurrence=recurrent"),
    **_renamed("tinylm.optim.", "tinylm.optim.", "clipping=optimizer flat=optimizer"),
    **_renamed("tinylm.train.", "tinylm.train.", "saving=records"),
    **_renamed("tinylm.train.", "tinylm.studies.", "copying dynamic_evaluation estimates memory mixing scaling_laws scaling_runs sizes"),
    **_renamed("tinylm.train.", "tinylm.train.tasks.", "classification classifier_config classifier_run"),
    **_renamed("tinylm.train.", "tinylm.train.tasks.", "dropout_ramp latent_semantics presets translation translation_config"),
    **_renamed("tinylm.verify.", "tinylm.verify.", "batches=arguments"),
    **_renamed("tinylm.verify.", "tinylm.verify.diagnosis.", "causes detached_terms=paths evidence wrong_ops"),
    **_renamed("tinylm.verify.", "tinylm.verify.torch.", "hugging_face_twins layer_calls op_parity parity training_drift"),
    **_renamed("tinylm.verify.torch_", "tinylm.verify.torch.", "classifiers models optimizers reference training"),
}


def absent(name: str) -> str:
    """Returns the line for a name in tinylm that does not exist: its new place if it has moved."""
    if f"tinylm.{name}" in MOVED:
        return f"tinylm.{name} is now {MOVED[f'tinylm.{name}']}"
    return f"module 'tinylm' has no attribute {name!r}" + (f": it is called tinylm.{FUNCTIONS[name]}" if name in FUNCTIONS else "")


class MovedFinder:
    """Asked by Python for a module that no other finder has found."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raises ImportError for a module that has moved."""
        if name in MOVED:
            raise ImportError(f"{name} is now {MOVED[name]}", name=name)


sys.meta_path.append(MovedFinder)
