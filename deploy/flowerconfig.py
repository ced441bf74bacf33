"""The defaults of ``rlm-dist flower``, for a Flower that Celery starts.

``celery -A workers flower --conf=deploy/flowerconfig.py``; basic auth comes from the environment:
``FLOWER_BASIC_AUTH=user:password``.
"""

address = "127.0.0.1"
port = 5555
read_only = True
max_tasks = 20_000
purge_offline_workers = 300
tasks_columns = "name,uuid,state,args,kwargs,received,runtime,worker"
