"""A simulated OpenAI-compatible endpoint on 127.0.0.1: scripted models, faults on demand, and an exact count.

It plays a whole RLM run without a model or a key. Its own count is the ground truth of every test of costs:
it is what a real provider would charge for.
"""

from rlm_dist.simulated.faults import Fault
from rlm_dist.simulated.server import Latency, Rate, SimulatedEndpoint
from rlm_dist.simulated.tally import ModelServed, Served

__all__ = ["Fault", "Latency", "ModelServed", "Rate", "Served", "SimulatedEndpoint"]
