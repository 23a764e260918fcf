#pragma once

/// What the shared library exports; everything else has hidden visibility.
#define VICINAL_API __attribute__((visibility("default")))
