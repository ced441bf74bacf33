"""The embedded Redis server: one per ``RLM_HOME``, shared by its users and kept by a supervisor process."""
