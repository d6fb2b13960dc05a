#include "longspan/topology.hpp"
