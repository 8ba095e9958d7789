"""Stages of the second stages: a round's candidates, and rerankers of them."""

from rounds.config import stand_ins
from rounds.pipeline import keys, stages
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.stages import Stage


def candidates(experiment: Experiment) -> Stage:
    """What the chosen round's ranking is refined with; of several seeds, their rounds' mean similarity."""
    given, number, members = experiment.settings, experiment.settings.round, experiment.of_each_seed
    call = keys.command(
        "candidates",
        recipe=given.model,
        data_dir=experiment.data,
        raw_dir=siblings_source(experiment) if given.is_validated else "",  # test queries have all
        device=given.first_device,
        cluster=given.cluster,
        shards=given.shards,
        model_paths=[member.train(earlier) for earlier in range(1, number + 1) for member in members],
        output_dir=experiment.candidates(number),
        replace_stale=True,
    )
    ends = tuple(stages.round_end(member, number) for member in members)
    return Stage("candidates", experiment.candidates(number), call, ends, home=experiment.folder)


def rerank(experiment: Experiment, others: tuple[Experiment, ...]) -> Stage:
    """A reranker that learns from other folds' candidates, and its scores of this fold's."""
    given, number = experiment.settings, experiment.settings.round
    models = [stages.load_recipe("MODEL", given.model).model, stages.load_recipe("RERANKER", given.reranker).model]
    stand_ins.check_one_model([model.name_or_path for model in models])
    output = experiment.reranker(number)
    call = keys.command(
        "rerank",
        recipe=given.reranker,
        folds=[other.candidates(number) for other in others],
        table=experiment.candidates(number),
        output_dir=output,
        refined=experiment.of_each_seed[-1].train(number),
        device=given.first_device,
        seed=given.training_seed,
        replace_stale=True,
    )
    inputs = tuple(candidates(fold) for fold in (experiment, *others))
    return Stage("rerank", output, call, inputs, home=experiment.folder)


def siblings_source(experiment: Experiment) -> str:
    """The raw data whose wrong answers without a label are siblings; empty where the task has none."""
    return experiment.settings.raw if experiment.settings.task == "eedi" else ""
