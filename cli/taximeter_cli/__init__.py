"""The command line of Taximeter: topmost layer, imports all parts, imported by none of them."""
