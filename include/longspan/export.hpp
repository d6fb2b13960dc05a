#pragma once

/// Marks what the shared library offers; everything else is hidden.
#define LONGSPAN_API [[gnu::visibility("default")]]
