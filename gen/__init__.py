"""Configurations, Verilog, back ends and the command line."""
