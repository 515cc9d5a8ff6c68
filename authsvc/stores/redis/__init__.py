"""Records in Valkey or Redis, for any number of replicas: a single node, Sentinel or Cluster.

Each write is one script in one round trip. It changes the record under compare-and-set, and appends
to the log of its partition. Every replica follows the logs, so that it evicts outdated records from
its cache within milliseconds. A replica that has read no log for longer than the staleness bound
answers nothing from its cache that the log could have changed.

Keys, with PREFIX "authsvc" and P the number of a partition, which is one slot of a cluster:

================================  ==========  ==============================================
``PREFIX:{P}:s:ID``               string      a record; see ``prelude.lua``
``PREFIX:{P}:created``            sorted set  ids by ``create_time``: the order of lists
``PREFIX:{P}:expires``            sorted set  ids by ``expire_time``: what a sweep removes
``PREFIX:{P}:unauthenticated``    sorted set  ids of unauthenticated records: the cap
``PREFIX:{P}:ids``                sorted set  ids by their text: for a search by prefix
``PREFIX:{P}:revoked``            sorted set  ids of revoked records by ``expire_time``: a count
``PREFIX:{P}:live_…``             sorted set  unauthenticated ids, but for the revoked: a count
``PREFIX:{P}:indexed``            string      the three were checked; it expires after a day
``PREFIX:{P}:u:DIGEST``           set         ids of one subject
``PREFIX:{P}:events``             stream      the log
``PREFIX:{0}:not_befores``        hash        the not-befores
``PREFIX:{0}:d:NAME``             string      a document
``PREFIX:{0}:r:KEY``              string      a message was received; it expires by itself
================================  ==========  ==============================================
"""
