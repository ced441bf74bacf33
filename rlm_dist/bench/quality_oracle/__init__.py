"""A simulated model that knows the truth of the quality tasks, with errors, times and prices that are set.

The root model writes code for the kind of question; it knows no label and no answer. The sub model knows the
labels of a set, the form of the sentences that state facts, and what ``ast`` says of a file. Each figure
that rests on it is simulated.
"""
