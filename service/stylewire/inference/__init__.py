"""The Open Inference Protocol, from ``protos/inference``; import it through ``stylewire.oip_pb``."""
