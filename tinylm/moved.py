"""Old names and where they are now: whoever uses one gets an error that says so."""

import sys
from typing import Any


def _same_names(old: str, new: str, names: str) -> dict[str, str]:
    return {f"{old}{name}": f"{new}{name}" for name in names.split()}


MOVED = {
    "tinylm.autograd": "tinylm.engine.autograd and tinylm.engine.grad; grad is also tinylm.grad",
    "tinylm.backend": "tinylm.engine.arrays, array_functions, devices and ids; array_module is also tinylm.array_module",
    "tinylm.checkpoint": "tinylm.recompute",
    "tinylm.checkpointing": "tinylm.engine.recompute",
    "tinylm.dispatch": "tinylm.engine.op",
    "tinylm.formats": "tinylm.pretrained, and formats.files is tinylm.files.json_files",
    "tinylm.kernel_registry": "tinylm.engine.kernels",
    "tinylm.models.pretrained": "tinylm.pretrained.model_loading",
    "tinylm.nn.attentions": "tinylm.nn.attention",
    "tinylm.nn.dropout_layer": "tinylm.nn.layers",
    "tinylm.nn.embeddings": "tinylm.nn.layers",
    "tinylm.nn.linear_layers": "tinylm.nn.layers",
    "tinylm.nn.low_rank": "tinylm.nn.lora",
    "tinylm.nn.norms": "tinylm.nn.layers",
    "tinylm.nn.positions": "tinylm.nn.positional_encoding",
    "tinylm.nn.recurrents": "tinylm.nn.recurrent",
    "tinylm.nn.transformers": "tinylm.nn.transformer",
    "tinylm.ops.lookups": "tinylm.ops.indexing",
    "tinylm.ops.normalizations": "tinylm.ops.normalization",
    "tinylm.ops.positions": "tinylm.ops.rotary",
    "tinylm.ops.probabilities": "tinylm.ops.softmax and tinylm.ops.losses",
    "tinylm.ops.products": "tinylm.ops.linear",
    "tinylm.ops.projections": "tinylm.ops.joint_linear",
    "tinylm.ops.randomness": "tinylm.ops.dropout",
    "tinylm.ops.recurrence": "tinylm.ops.recurrent",
    "tinylm.random_streams": "tinylm.engine.random_keys",
    "tinylm.rotary_angles": "tinylm.ops.rotary_angles",
    "tinylm.train.config": "tinylm.train.tasks.language_model_config",
    "tinylm.train.counting": "tinylm.train.tasks.language_modeling",
    "tinylm.train.gradient_norms": "tinylm.train.metrics",
    "tinylm.train.preparation": "tinylm.train.tasks.language_modeling",
    "tinylm.train.progress": "tinylm.train.state and tinylm.train.records",
    "tinylm.train.runs": "tinylm.train.tasks.loading and fine_tuning; load_run is also tinylm.train.load_run",
    "tinylm.verify.graphs": "tinylm.engine.autograd (nodes)",
    "tinylm.verify.hugging_face_twins": "tinylm.verify.torch.hugging_face_twins",
    "tinylm.whole_files": "tinylm.files.atomic",
    **_same_names("tinylm.", "tinylm.engine.", "anomalies cuda_probe profiler tensor"),
    "tinylm.models.stored_weights": "tinylm.pretrained.weight_loading",
    **_same_names("tinylm.models.", "tinylm.pretrained.", "gguf_models hugging_face"),
    **_same_names("tinylm.train.", "tinylm.studies.", "copying dynamic_evaluation estimates memory mixing scaling_laws scaling_runs sizes"),
    **_same_names("tinylm.train.", "tinylm.train.tasks.", "classification classifier_config classifier_run dropout_ramp"),
    **_same_names("tinylm.train.", "tinylm.train.tasks.", "latent_semantics presets translation translation_config"),
    **_same_names("tinylm.verify.", "tinylm.verify.diagnosis.", "causes detached_terms evidence wrong_ops"),
    **_same_names("tinylm.verify.torch_", "tinylm.verify.torch.", "classifiers models optimizers reference training"),
}


def absent(name: str) -> str:
    """Returns the line for a name in tinylm that does not exist: its new place if it has moved."""
    return f"tinylm.{name} is now {MOVED[f'tinylm.{name}']}" if f"tinylm.{name}" in MOVED else f"module 'tinylm' has no attribute {name!r}"


class MovedFinder:
    """Asked by Python for a module that no other finder has found."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raises ImportError for a module that has moved."""
        if name in MOVED:
            raise ImportError(f"{name} is now {MOVED[name]}", name=name)


sys.meta_path.append(MovedFinder)
