"""Records in Valkey or Redis, for any number of replicas: a single node, Sentinel or Cluster.

Each write is one script, in one round trip. It changes the record under compare-and-set and appends
to the log of its partition; every replica follows the logs, and so knows within milliseconds what
of its memory is outdated. A replica that has not heard from a log for longer than the bound answers
nothing from memory that the log could have changed.

Keys, with PREFIX "authsvc" and P the number of a partition, which one slot of a cluster holds:

=========================  ==========  ================================================
``PREFIX:{P}:s:ID``        string      a record; see ``prelude.lua``
``PREFIX:{P}:created``     sorted set  ids by ``create_time``: the order of lists
``PREFIX:{P}:expires``     sorted set  ids by ``expire_time``: what a sweep removes
``PREFIX:{P}:anonymous``   sorted set  ids of the unauthenticated: the cap
``PREFIX:{P}:u:DIGEST``    set         ids of one subject
``PREFIX:{P}:events``      stream      the log
``PREFIX:{0}:not_befores``     hash        the not-befores
=========================  ==========  ================================================
"""
