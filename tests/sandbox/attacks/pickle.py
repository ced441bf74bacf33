"""A pickle that runs a command."""

import pickle


class Bomb:
    def __reduce__(self):
        return os.system, (f"touch {facts['open_folder']}/attack-pickle",)


attempt(lambda: pickle.loads(pickle.dumps(Bomb())))
