"""The laws that every factor and objective obeys, for classes of your own.

    report = check_factor(MyFactor(net, given="z"), parents=[(4,)])
    report = check_objective(my_objective, samples=8)

A broken law raises AssertionError with a sentence; the report says of each law that it holds, or why it does
not apply.
"""

from .case import FactorCase
from .estimation_laws import check_maximum_likelihood
from .factor_laws import (
    FACTOR_LAWS,
    check_archive_round_trip,
    check_density_integrates,
    check_detached_stops_parameters,
    check_factor,
    check_gradients_reach_every_parameter,
    check_lead_dimensions,
    check_masks,
    check_noise_is_an_input,
    check_samples_follow_log_prob,
)
from .objective_laws import (
    OBJECTIVE_LAWS,
    ObjectiveCase,
    check_ascent_raises_the_value,
    check_bound_is_well_formed,
    check_gradients_reach_p_and_q,
    check_objective,
    check_side_of_the_evidence,
    check_value_is_free_of_weights,
)

__all__ = [
    "FACTOR_LAWS",
    "OBJECTIVE_LAWS",
    "FactorCase",
    "ObjectiveCase",
    "check_archive_round_trip",
    "check_ascent_raises_the_value",
    "check_bound_is_well_formed",
    "check_density_integrates",
    "check_detached_stops_parameters",
    "check_factor",
    "check_gradients_reach_every_parameter",
    "check_gradients_reach_p_and_q",
    "check_lead_dimensions",
    "check_masks",
    "check_maximum_likelihood",
    "check_noise_is_an_input",
    "check_objective",
    "check_samples_follow_log_prob",
    "check_side_of_the_evidence",
    "check_value_is_free_of_weights",
]
