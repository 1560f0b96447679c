"""
The live view of a fleet, `ccproxy top`.

    fleet_view      the data, which a thread keeps up to date
    view_text       the data as cells and sentences, pure
    plain_view      shows it without Textual: a refreshed screen, or sentences for screen readers
    dashboard       shows it with Textual, which only this module imports
"""
