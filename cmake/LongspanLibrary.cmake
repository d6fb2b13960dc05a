# The library that users link: the objects of every module in one shared object, all hidden but for the public API.
get_property(modules GLOBAL PROPERTY LONGSPAN_MODULES)
get_property(libraries GLOBAL PROPERTY LONGSPAN_LIBRARIES)
list(REMOVE_ITEM modules longspan_cli longspan_inventory)
list(REMOVE_DUPLICATES libraries)
list(TRANSFORM modules REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
add_library(longspan SHARED ${objects})
add_library(longspan::longspan ALIAS longspan)
# PRIVATE third-party libraries: static ones end inside, shared ones become dependencies of the object.
target_link_libraries(longspan PUBLIC longspan_headers PRIVATE ${libraries})
set_target_properties(longspan PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE CXX)
