"""A job's trajectory as a page: the model of what is shown, its templates, and self-contained files of it.

``model`` and ``call_rows`` turn what is stored into frozen values, ``render`` these into HTML, and
``trace_page`` writes files. The pages inside Flower are made from the same model and ``_job_body.html``.
"""
