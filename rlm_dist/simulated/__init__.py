"""A simulated OpenAI-compatible endpoint on 127.0.0.1; may import schema.

It has scripted models, faults on demand and an exact count of its own. It plays a whole RLM run with no model
and no key, and it is the ground truth of every test of costs: its count is what a provider would charge for.
"""

from rlm_dist.simulated.faults import Fault
from rlm_dist.simulated.server import Latency, Rate, SimulatedEndpoint, TokenSpeed
from rlm_dist.simulated.tally import ModelServed, Served

__all__ = ["Fault", "Latency", "ModelServed", "Rate", "Served", "SimulatedEndpoint", "TokenSpeed"]
